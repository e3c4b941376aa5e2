# Sourced by a script, so that it also runs without sessionctl or outside a session: steps are plain commands then.
command -v sessionctl >/dev/null && [ -n "${SESSIONCTL_SOCKET-}" ] || sessionctl() {
    while [ $# -gt 0 ] && [ "$1" != -- ]; do shift; done
    shift; "$@"
}
