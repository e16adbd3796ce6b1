"""Completion as one types it: the shells that are here, told where the file is as `gpen completion --help` says."""

import os
import select
import shutil
import subprocess
import time

import pytest

fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))

pytest_plugins = ["cli_fixtures"]

PATIENCE = 60  # seconds: a shell that has not answered by then never will
READY = "ready>"
# Ctrl-T writes down what stands on the line by then.
BASH = """PS1='{ready}'
. ./gpen.bash
written() {{ printf %s "$READLINE_LINE" > line; }}
bind 'set enable-bracketed-paste off'
bind -x '"\\C-t": written'
"""
ZSH = """PS1='{ready}'
fpath=({folder} $fpath)
autoload -U compinit
compinit -u -d ./dump
written() {{ print -rn -- "$BUFFER" > line; zle kill-whole-line }}
zle -N written
bindkey -e
bindkey '^T' written
"""


def typed(shell, folder, keys, ending="\t\x14\x15exit\r"):
    """Runs the shell on a terminal, types the keys once it is ready, and ends it."""
    ours, its = pty.openpty()
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "ZDOTDIR": str(folder), "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    process = subprocess.Popen(
        shell,
        cwd=folder,
        env=environ,
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # tcsh edits no line without a terminal of its own
    )
    os.close(its)
    shown, ends = b"", time.monotonic() + PATIENCE
    sent = False
    try:
        while process.poll() is None:
            assert time.monotonic() < ends, shown
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    shown += os.read(ours, 4096)
                except OSError:  # it has closed its side
                    break
            if not sent and READY.encode() in shown:
                os.write(ours, (keys + ending).encode())
                sent = True
        process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert (folder / "line").exists(), shown
    return (folder / "line").read_text()


def bash(script, folder, line):
    (folder / "gpen.bash").write_text(script)
    (folder / "init").write_text(BASH.format(ready=READY))
    return typed(["bash", "--noprofile", "--rcfile", "init", "-i"], folder, line)


def zsh(script, folder, line):
    (folder / "_gpen").write_text(script)
    (folder / ".zshrc").write_text(ZSH.format(ready=READY, folder=folder))
    return typed(["zsh", "-d", "-i"], folder, line)


def fish(script, folder, line):
    """Fish says what it offers; where that is one thing, Tab takes it."""
    place = folder / ".config" / "fish" / "completions"
    place.mkdir(parents=True, exist_ok=True)
    (place / "gpen.fish").write_text(script)
    (folder / "gpen").touch(0o755)  # fish completes what there is
    environ = {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    asked = ["fish", "-c", "complete -C $argv[1]", line]
    done = subprocess.run(asked, cwd=folder, env=environ, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stderr == ""
    offered = [one.partition("\t")[0] for one in done.stdout.splitlines()]
    return f"{line.rpartition(' ')[0]} {offered[0]} " if len(offered) == 1 else line


def tcsh(script, folder, line):
    """On a terminal, where Tab and Ctrl-A make of the line a command that writes it down."""
    (folder / "gpen.tcsh").write_text(script)
    (folder / ".tcshrc").write_text(f"set prompt='{READY}'\nsource ./gpen.tcsh\n")
    return typed(["tcsh", "-i"], folder, line, "\t\x01echo -n '\x05' > line\rexit\r")


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish, "tcsh": tcsh}

BEYOND_TCSH = ("gpen detect --stren", "gpen restore photo.jpg --model pho")


@pytest.fixture(params=SHELLS)
def complete(request, gpen, tmp_path):
    """What stands on the line after Tab."""
    if shutil.which(request.param) is None:
        pytest.skip(f"no {request.param} here")
    pytest.importorskip("shtab")
    (tmp_path / "photo.jpg").touch()
    script = gpen("completion", request.param).out

    def run(line):
        if request.param == "tcsh" and line in BEYOND_TCSH:
            pytest.skip("tcsh mixes the options of all commands, and offers names or files, not both")
        return SHELLS[request.param](script, tmp_path, line)

    return run


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("gpen rest", "gpen restore "),
        ("gpen co", "gpen co"),  # compare, convert, completion
        ("gpen restore --mask-type p", "gpen restore --mask-type parse "),
        ("gpen restore --mask-type pho", "gpen restore --mask-type pho"),  # a file is none of its values
        ("gpen restore --skip", "gpen restore --skip-existing "),
        ("gpen restore pho", "gpen restore photo.jpg "),
        ("gpen restore photo.jpg --model gpen-bfr-5", "gpen restore photo.jpg --model gpen-bfr-512 "),
        ("gpen restore photo.jpg --model pho", "gpen restore photo.jpg --model photo.jpg "),
        ("gpen restore --ray --work", "gpen restore --ray --workers "),
        ("gpen detect -o seen --ang", "gpen detect -o seen --angles "),
        ("gpen detect --stren", "gpen detect --stren"),
        ("gpen download parse", "gpen download parsenet "),
        ("gpen completion z", "gpen completion zsh "),
    ],
)
@pytest.mark.slow
def test_tab_completes(complete, line, completed):
    assert complete(line) == completed
