#!/bin/sh
# What Triton starts as the stub of its Python backend: it starts the real one, so that a version that loads beside
# another one isn't felt by it. Arguments: Triton's own for the stub, the first one is the version's model.py.
real="${0%/*}/real/${0##*/}"
unset EXFM_STUB_TURN EXFM_STUB_ABSENT

# Without arguments Triton only asks, once per instance, whether its libraries are found; whoever started it has looked.
[ $# = 0 ] && exit 1

# Whether somebody waits for a core for most of the time: then the idle class would get none, and Triton gives a stub
# 30 s to begin.
crowded() {
    read -r share 2>/dev/null </proc/pressure/cpu || return 1
    share="${share#*avg10=}"
    [ "${share%%.*}" -ge 60 ]
}

# A version's absence.py says that its runner gives the turn back, and knows its way out of the idle class.
own="${1%/*}"
if [ -f "$own/exporter/runner/absence.py" ]; then
    exec 9<"$own" && flock --timeout 10 9
    for schema in "${own%/*}"/[0-9]*/schema.json; do
        [ "$schema" = "$own/schema.json" ] && continue
        # A version that serves holds a lock on its schema; who only asks, as here, has it for less than that.
        flock --exclusive --timeout 0.05 --conflict-exit-code 75 8 8<"$schema" 2>/dev/null
        if [ $? = 75 ]; then
            export EXFM_STUB_TURN=9
            # Set by who has made sure that the idle class can be left again.
            if [ -n "$EXFM_STUB_MAY_YIELD" ] && ! crowded; then
                EXFM_STUB_ABSENT=1 exec chrt --idle 0 "$real" "$@"
            fi
            exec "$real" "$@"
        fi
    done
    exec 9<&-
fi
exec "$real" "$@"
