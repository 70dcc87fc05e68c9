# Recipes for people; `./scripts/test` runs the same without `just`.

default:
    @just --list

# everything that a change must pass
test:
    ./scripts/test

# format, lints and dependency arrows
check: arrows
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings

# dependencies between rooms point down only
arrows:
    ./scripts/arrows

# each fuzz target for a few seconds
fuzz-smoke *ARGS:
    ./scripts/fuzz-smoke {{ARGS}}

# licences, advisories and bans
deny:
    ./scripts/deny

# the main job, end to end
quickstart *ARGS:
    cargo run --release -- quickstart {{ARGS}}

# criterion benchmarks of judging, encoding and the log
bench:
    cargo bench -p policy -p moderation -p audit -p store

# what is made to be costly or malformed: what comes of it, and how long it takes
bad-input:
    cargo run --release -p judge --example bad_input

# the gateway beside nginx, one run, ratios
bench-load *ARGS:
    cargo build --release
    cargo run --release -p bench -- {{ARGS}}
