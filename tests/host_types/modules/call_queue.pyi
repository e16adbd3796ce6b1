from threading import Lock

queue_lock: Lock
