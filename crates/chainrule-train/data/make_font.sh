#!/bin/sh
# Writes curves-font.ttf: the letters and signs that a plot may need, out of DejaVuSans.ttf (the first argument).
# Needs fonttools (made with 4.68.0).
set -eu
pyftsubset "$1" --output-file="$(dirname "$0")/curves-font.ttf" \
    --unicodes="U+0020-007E,U+00A0-017F,U+0370-03FF,U+2010-2026,U+2030-203A,U+2070-209C,U+2190-2193,U+2202,U+2207,U+2211,U+2212,U+221A,U+221E,U+2248,U+2260,U+2264,U+2265" \
    --layout-features="" --no-hinting --desubroutinize --drop-tables+=GDEF,GPOS,GSUB,kern,FFTM \
    --name-IDs=0,1,2,3,4,5,6,13,14 --notdef-outline
