# Sourced by setup and wheel, from the top of the checkout: environments with uv where it is, else with venv and pip.
# Every version comes from constraints.txt, the build's own included.

# Say what is wrong in one line, and stop.
stop() {
    echo "resilient_cache: $*" >&2
    exit 1
}

# Set BASE to the interpreter behind $PYTHON (the one a virtual environment was made from), or stop.
find_python() {
    PYTHON=${PYTHON:-python3}
    BASE=$("$PYTHON" -c 'import sys; print(getattr(sys, "_base_executable", None) or sys.executable)' 2>/dev/null) ||
        stop "'$PYTHON' does not run; Python 3.11 or newer is needed (PYTHON=... selects another)"
    "$BASE" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        stop "Python 3.11 or newer is needed, '$PYTHON' is $("$BASE" -c 'import platform; print(platform.python_version())') (PYTHON=... selects another)"
    if uv pip install --help 2>/dev/null | grep -q -e '--group'; then # an old uv knows no groups
        INSTALLER=uv
    elif "$BASE" -c 'import ensurepip, venv' 2>/dev/null; then
        INSTALLER=pip
    else
        stop "'$PYTHON' has no venv or ensurepip module: install them (Debian: python3-venv) or uv"
    fi
}

# new_venv FOLDER
new_venv() {
    rm -rf "$1"
    if [ "$INSTALLER" = uv ]; then
        uv venv --quiet --no-project --python "$BASE" "$1"
    else
        "$BASE" -m venv "$1"
        "$1/bin/python" -m pip --disable-pip-version-check install --quiet --constraint constraints.txt --upgrade pip
    fi
}

# install FOLDER WHAT...
install() {
    folder=$1
    shift
    if [ "$INSTALLER" = uv ]; then
        uv pip install --quiet --python "$folder/bin/python" --constraints constraints.txt --build-constraints constraints.txt "$@"
    else
        "$folder/bin/python" -m pip --disable-pip-version-check install --quiet --constraint constraints.txt --build-constraint constraints.txt "$@"
    fi
}
