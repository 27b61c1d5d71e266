#!/usr/bin/env bash
# Makes one archive that brings ddl to a machine that has Python, PyTorch and CUDA, but no internet (README.md):
#
#   cluster/bundle.sh [--python 3.12] [--with PACKAGE]... OUT.tar.xz     on a machine with internet
#   tar xf OUT.tar.xz && ddl-bundle/install                             on the other one
#
# The archive has ddl, Ray and those packages of requirements.lock that PyTorch images lack. --with adds one more of them.
# --python is the version on the other machine (default: this machine's python3). Both machines: Linux on x86-64.
set -euo pipefail

# What ddl imports and PyTorch images lack, and typing-extensions and packaging, which are often too old there. Left out: wandb,
# because there is no server to reach and wandb.mode=disabled needs none of it; alembic and sqlalchemy, which Optuna imports only
# for a database; tensorboardX, which Ray imports only for a logger that ddl switches off.
packages=(annotated-types antlr4-python3-runtime colorlog dm-tree farama-notifications gymnasium hydra-core jsonschema
    jsonschema-specifications lz4 msgpack omegaconf optuna ormsgpack packaging plotly pydantic pydantic-core ray referencing rpds-py
    typing-extensions typing-inspection wrapt)

# Parts that ddl does not use: Ray for Java (32 MB compressed), its dashboard's web page, Serve and LLMs, and what Plotly and
# the command-line programs add for notebooks.
unused=(bin share ray/{jars,dashboard/client,serve,llm} plotly/{labextension,package_data/widgetbundle.js})

fail() {
    echo "bundle.sh: $1" >&2
    exit 2
}

root=$(realpath "$(dirname "$0")/..")
python='' out=''
usage() {
    fail "$1. Usage: cluster/bundle.sh [--python 3.12] [--with PACKAGE]... OUT.tar.xz"
}
while (($#)); do
    case $1 in
        --python | --with)
            (($# > 1)) || usage "$1 needs a value"
            if [[ $1 == --python ]]; then python=$2; else packages+=("$2"); fi
            shift
            ;;
        -*) usage "unknown option $1" ;;
        *)
            [[ -z $out ]] || usage "two archives, $out and $1"
            out=$1
            ;;
    esac
    shift
done
[[ $out == *.tar.xz ]] || usage "${out:-no file}: name the archive to write, OUT.tar.xz"
python=${python:-$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')}
[[ $python == 3.11 || $python == 3.12 ]] || fail "no bundle for Python $python. Name the other machine's: --python 3.11 or --python 3.12."
[[ -d $(dirname "$out") ]] || fail "$out: the folder does not exist. Create it first."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bundle=$work/ddl-bundle
mkdir "$bundle"

# The lines of requirements.lock with these packages: one with the version, then one per hash.
for package in "${packages[@]}"; do
    awk -v pin="$package==" '/^[^ ]/ { wanted = index($0, pin) == 1 } wanted' "$root/requirements.lock" >"$work/pin"
    [[ -s $work/pin ]] || fail "$package is not in requirements.lock. Spell it as there: small letters and hyphens."
    cat "$work/pin" >>"$work/requirements.txt"
done

# pip matches the N of manylinux_2_N exactly. antlr4-python3-runtime has no wheel: pip builds one, which --no-deps allows for another Python.
platforms=()
for platform in manylinux_2_{28,27,24,17,12,5} manylinux{2014,2010,1}; do
    platforms+=(--platform "${platform}_x86_64")
done
python3 -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes \
    --implementation cp --python-version "$python" "${platforms[@]}" --target "$bundle/packages" --requirement "$work/requirements.txt"
(cd "$bundle/packages" && rm -r "${unused[@]}")

tar --create --directory "$root" --exclude __pycache__ LICENSE benchmarks cluster ddl launch.py pyproject.toml tests tune_configs |
    tar --extract --directory "$bundle"
mv "$bundle/cluster/bundle_install.py" "$bundle/install"
chmod 755 "$bundle/install"
echo "$python" >"$bundle/python-version"

# Ray's three programs contain the same libraries. The dictionary spans all of them, so these are stored once.
tar --create --directory "$work" --sort=name --owner=0 --group=0 --numeric-owner ddl-bundle |
    xz --x86 --lzma2=preset=6,dict=192MiB >"$work/archive"
mv "$work/archive" "$out"
echo "$out: $(numfmt --to=iec-i --suffix=B --format=%.1f "$(stat --format=%s "$out")"), for Python $python on x86-64"
