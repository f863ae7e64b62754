#!/usr/bin/env python3
"""The walls of the house: who may include whom, who may start a process, no helper copied.

ci/walls.py [BUILD]              checks the repository, and the libraries built under BUILD
ci/walls.py --self-test [BUILD]  shows, on a copy with one breach each, that every wall can fail
"""

import collections
import os
import re
import shutil
import subprocess
import sys
import tempfile

C_STANDARD = set("""assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal
    stdalign stdarg stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string tgmath threads time
    uchar wchar wctype""".split())
# libc beyond the C standard: POSIX, and the kernel's and the processor's headers it comes with.
LIBC = re.compile(r"^((sys|linux|net|netinet|arpa|asm)/\w[\w/.-]*|(dirent|dlfcn|endian|byteswap|err|fcntl|fnmatch"
                  r"|getopt|glob|grp|ifaddrs|langinfo|libgen|netdb|poll|pthread|pwd|sched|semaphore|spawn|strings"
                  r"|syslog|termios|ucontext|unistd|utime|wait|x86intrin|immintrin|malloc|execinfo|link|elf)\.h)$")
LIBRARIES = [("glib", re.compile(r"^(glib|gmodule|glib-object|glib-unix|gio/[\w-]+|glib/[\w-]+)\.h$")),
             ("json-glib", re.compile(r"^json-glib/.*\.h$")),
             ("libpcap", re.compile(r"^pcap(/.*)?\.h$")),
             ("lua", re.compile(r"^(lua|lualib|lauxlib|luaconf)\.h$")),
             ("libdw", re.compile(r"^(libdw|libelf|gelf|dwarf|elfutils/.*)\.?h?$")),
             ("cmocka", re.compile(r"^cmocka\.h$"))]

# room -> (rooms it may include, libraries it may use, may it use libc beyond the standard)
ROOMS = collections.OrderedDict([
    ("models/abi", (["models/abi"], [], False)),
    ("qtest_client", (["qtest_client", "models/abi"], ["glib"], True)),
    ("models", (["models", "models/abi"], ["glib", "libpcap"], True)),
    ("harness", (["harness", "qtest_client", "models", "models/abi"],
                 ["glib", "json-glib", "libpcap", "lua", "libdw"], True)),
])
# json-glib is for QMP alone.
EXCEPTIONS = {re.compile(r"^qtest_client/(qmp\w*)\.[ch]$"): ["json-glib"]}

STARTS_A_PROCESS = re.compile(r"^(_?fork|vfork|clone3?|exec(l|le|lp|v|ve|vp|vpe|veat)|fexecve|posix_spawnp?"
                              r"|system|popen|wordexp|daemon|forkpty|g_spawn_\w+|g_subprocess_\w+"
                              r"|g_app_info_launch\w*|pcap_\w*rpcap\w*)$")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"]+)"|<([^>]+)>|(\S+))', re.M)


def room_of(path):
    """The room a file lies in: the longest that is a folder above it."""
    rooms = [room for room in ROOMS if path.startswith(room + "/")]
    return max(rooms, key=len) if rooms else None


def source_files(root):
    for top in ("models", "qtest_client", "harness"):
        for folder, _, names in os.walk(os.path.join(root, top)):
            for name in sorted(names):
                if name.endswith((".c", ".h")):
                    yield os.path.relpath(os.path.join(folder, name), root)


def library_of(header):
    for name, pattern in LIBRARIES:
        if pattern.match(header):
            return name
    return None


def why_not(path, quoted, header):
    """Why `path` may not include `header`, or None."""
    room = room_of(path)
    may_rooms, may_libraries, may_libc = ROOMS[room]
    other = room_of(header)
    if quoted and other:
        return None if other in may_rooms else f"{room} may not include {other}"
    if quoted:
        return "is not in a room (write the path from the top of the repository)"
    if other:
        return "a header of this repository belongs in quotes"
    if header.endswith(".h") and header[:-2] in C_STANDARD:
        return None
    library = library_of(header)
    if library:
        for pattern, extra in EXCEPTIONS.items():
            if pattern.match(path) and library in extra:
                return None
        return None if library in may_libraries else f"{room} may not use {library}"
    if LIBC.match(header):
        return None if may_libc else f"{room} may use C standard headers only"
    return "is no header that ci/walls.py knows"


def check_includes(root):
    for path in source_files(root):
        if os.path.basename(path).startswith("test_"):
            continue  # tests may include what they need
        with open(os.path.join(root, path), encoding="utf-8") as file:
            text = file.read()
        text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m.group().count("\n"), text, flags=re.S)
        for match in INCLUDE.finditer(text):
            quoted, angled, other = match.groups()
            header = quoted or angled or other
            reason = why_not(path, quoted is not None, header) if not other else "cannot be read"
            if reason:
                line = text.count("\n", 0, match.start(match.lastindex)) + 1
                yield f"{path}:{line}: includes {header}: {reason}"


def symbols(archive):
    """(member, type, name) of each symbol; type U is one that the member wants from elsewhere."""
    out = subprocess.run(["nm", "-A", archive], stdout=subprocess.PIPE, text=True, check=True).stdout
    for line in out.splitlines():
        where, _, rest = line.rpartition(":")
        fields = rest.split()
        yield where.split(":")[-1], fields[-2], fields[-1].split("@")[0]


def check_symbols(build):
    archives = {"qtest_client": f"{build}/libringlab-client.a", "models": f"{build}/libringlab-models.a",
                "harness": f"{build}/libharness.a"}
    tables = {room: list(symbols(archive)) for room, archive in archives.items()}
    defined = {room: {name for _, kind, name in table if kind in "TDBRVWC"} for room, table in tables.items()}
    abi = defined["qtest_client"] & defined["models"]  # both archives carry models/abi
    for member, kind, name in tables["qtest_client"]:
        if kind == "U" and STARTS_A_PROCESS.match(name):
            yield f"qtest_client ({member}): calls {name}: qtest_client starts no process"
    for room, others in (("qtest_client", ("models", "harness")), ("models", ("qtest_client", "harness"))):
        for member, kind, name in tables[room]:
            for other in others:
                if kind == "U" and name in defined[other] - abi - defined[room]:
                    yield f"{room} ({member}): uses {name} of {other}"


LUA_FUNCTION = re.compile(r"^(?:local\s+)?function\s+([\w.:]+)\s*(\(.*?\).*?)^end\b", re.M | re.S)


def check_copies(root):
    """A function of three lines or more that stands word for word in two scripts."""
    seen = {}
    for folder, _, names in os.walk(os.path.join(root, "scenarios")):
        for name in sorted(names):
            if not name.endswith(".lua"):
                continue
            path = os.path.relpath(os.path.join(folder, name), root)
            with open(os.path.join(root, path), encoding="utf-8") as file:
                text = file.read()
            for match in LUA_FUNCTION.finditer(text):
                body = re.sub(r"--[^\n]*", "", match.group(2))
                lines = [" ".join(line.split()) for line in body.splitlines() if line.strip()]
                if len(lines) < 4:  # the arguments' line and three more
                    continue
                first = seen.setdefault("\n".join(lines), (path, match.group(1)))
                if first[0] != path:
                    yield (f"{path}: {match.group(1)} is a copy of {first[1]} in {first[0]}: "
                           "it belongs in scenarios/lib")


def check(root, build):
    breaches = list(check_includes(root)) + list(check_copies(root))
    if build:
        breaches += check_symbols(build)
    return breaches


def self_test(build):
    """Each wall is breached once in a copy, and must be seen; the copy before that must be clean."""
    n_failed = 0

    def expect(what, breaches, wanted):
        nonlocal n_failed
        if not any(wanted in breach for breach in breaches):
            n_failed += 1
            print(f"walls: NOT SEEN: {what} (wanted '{wanted}', got {breaches})", file=sys.stderr)

    copied = "function f(a)\n  local b = a\n  b = b + 1\n  return b\nend\n"
    plants = [
        ("models/abi/x.h", "#include <glib.h>\n", "models/abi may not use glib"),
        ("models/abi/x.h", "#include <unistd.h>\n", "C standard headers only"),
        ("models/abi/x.h", '#include "qtest_client/pci.h"\n', "models/abi may not include qtest_client"),
        ("models/abi/x.h", '#include "models/ivshmem_server.h"\n', "models/abi may not include models"),
        ("qtest_client/x.c", '#include "models/ivshmem_server.h"\n', "qtest_client may not include models"),
        ("qtest_client/x.c", '\n#  include "harness/qemu.h"\n', "x.c:2: includes harness/qemu.h: qtest_client may"),
        ("qtest_client/x.c", "#include <json-glib/json-glib.h>\n", "qtest_client may not use json-glib"),
        ("qtest_client/x.c", '#include "qtest.h"\n', "is not in a room"),
        ("models/x.c", '#include "qtest_client/qtest.h"\n', "models may not include qtest_client"),
        ("models/deep/x.h", '#include "harness/qemu.h"\n', "models may not include harness"),
        ("models/x.c", "#include <lua.h>\n", "models may not use lua"),
        ("models/x.c", "#include <no_such.h>\n", "is no header that"),
        ("models/x.c", "#include HEADER\n", "cannot be read"),
        ("harness/x.c", "#include <cmocka.h>\n", "harness may not use cmocka"),
        ("harness/x.c", "#include <models/ivshmem_server.h>\n", "belongs in quotes"),
    ]
    with tempfile.TemporaryDirectory() as root:
        def plant(path, text):
            full = os.path.join(root, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w", encoding="utf-8") as file:
                file.write(text)

        for path, text, wanted in plants:
            plant(path, text)
            expect(f"{text.strip()} in {path}", check(root, None), wanted)
            os.remove(os.path.join(root, path))
        plant("qtest_client/test_x.c", '#include <cmocka.h>\n#include "models/ivshmem_server.h"\n')
        plant("qtest_client/qmp.c", "#include <json-glib/json-glib.h>\n/* #include <lua.h> */\n")
        plant("scenarios/pci/a.lua", "local " + copied)
        if check(root, None):
            n_failed += 1
            print(f"walls: SEEN WHERE THERE IS NONE: {check(root, None)}", file=sys.stderr)
        plant("scenarios/b.lua", copied.replace("function f", "function g").replace("  b =", "\tb  ="))
        expect("a helper copied", check(root, None), "belongs in scenarios/lib")

        if build:
            for name in ("libringlab-client.a", "libringlab-models.a", "libharness.a"):
                shutil.copy(os.path.join(build, name), root)
            harness = next(name for _, kind, name in symbols(f"{root}/libharness.a") if kind == "T")
            client = {name for _, kind, name in symbols(f"{root}/libringlab-client.a") if kind == "T"}
            client -= {name for _, kind, name in symbols(f"{root}/libringlab-models.a")}

            def breach(library, symbol, wanted):
                archive = f"{root}/{library}"
                shutil.copy(archive, archive + ".kept")
                plant("x.c", f"void {symbol}(void); void x_breach(void); void x_breach(void) {{ {symbol}(); }}\n")
                subprocess.run(["gcc", "-w", "-fno-builtin", "-c", "x.c"], cwd=root, check=True)
                subprocess.run(["ar", "rs", archive, "x.o"], cwd=root, check=True, stderr=subprocess.DEVNULL)
                expect(f"{symbol} called in {library}", check_symbols(root), wanted)
                os.rename(archive + ".kept", archive)

            for symbol in ("fork", "execve", "posix_spawn", "g_spawn_async", "g_subprocess_newv", "system"):
                breach("libringlab-client.a", symbol, "starts no process")
            breach("libringlab-client.a", harness, "of harness")
            breach("libringlab-models.a", sorted(client)[0], "of qtest_client")
    return n_failed


def main(arguments):
    testing = arguments[:1] == ["--self-test"]
    build = (arguments[1:] if testing else arguments)[:1]
    build = build[0] if build else None
    if testing:
        return 1 if self_test(build) else 0
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    breaches = check(root, build)
    for breach in breaches:
        print(breach, file=sys.stderr)
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
