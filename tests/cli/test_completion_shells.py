"""Completion as one types it: the shells that are here, told where the file is as `gpen completion --help` says."""

import os
import select
import shutil
import subprocess
import time

import pytest

pty = pytest.importorskip("pty")

pytest_plugins = ["command_line"]

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
autoload -U compinit
compinit -u -d ./dump
. ./gpen.zsh
written() {{ print -rn -- "$BUFFER" > line; zle kill-whole-line }}
zle -N written
bindkey -e
bindkey '^T' written
"""


def typed(shell, folder, keys):
    """Runs the shell on a terminal, types the keys once it is ready, and ends it."""
    ours, its = pty.openpty()
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "ZDOTDIR": str(folder), "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    process = subprocess.Popen(
        shell, cwd=folder, env=environ, stdin=its, stdout=its, stderr=its, start_new_session=True, close_fds=True
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
                os.write(ours, keys.encode() + b"\t\x14\x15exit\r")
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
    (folder / "gpen.zsh").write_text(script)
    (folder / ".zshrc").write_text(ZSH.format(ready=READY))
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


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}


@pytest.fixture(params=SHELLS)
def complete(request, gpen, tmp_path):
    """What stands on the line after Tab."""
    if shutil.which(request.param) is None:
        pytest.skip(f"no {request.param} here")
    (tmp_path / "photo.jpg").touch()
    script = gpen("completion", request.param).out
    return lambda line: SHELLS[request.param](script, tmp_path, line)


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


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("gpen restore photo.jpg --model auto:", "gpen restore photo.jpg --model auto:256 "),
        ("gpen restore photo.jpg --model auto:2", "gpen restore photo.jpg --model auto:256 "),
        ("gpen restore photo.jpg --model=gpen-bfr-5", "gpen restore photo.jpg --model=gpen-bfr-512 "),
        ("gpen restore --mask-type=p", "gpen restore --mask-type=parse "),
    ],
)
def test_bash_completes_behind_the_letters_at_which_it_parts_words(gpen, tmp_path, line, completed):
    if shutil.which("bash") is None:
        pytest.skip("no bash here")
    (tmp_path / "photo.jpg").touch()
    assert bash(gpen("completion", "bash").out, tmp_path, line) == completed


def test_zsh_finds_it_as_a_file_of_its_folders_too(gpen, tmp_path):
    if shutil.which("zsh") is None:
        pytest.skip("no zsh here")
    script = gpen("completion", "zsh").out
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions" / "_gpen").write_text(script)
    sourced = ". ./gpen.zsh\n"
    assert sourced in ZSH
    (tmp_path / ".zshrc").write_text(f"fpath=({tmp_path}/functions $fpath)\n" + ZSH.replace(sourced, "").format(ready=READY))
    assert typed(["zsh", "-d", "-i"], tmp_path, "gpen restore --mask-type p") == "gpen restore --mask-type parse "
