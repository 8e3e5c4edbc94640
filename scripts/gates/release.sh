# The gates of the workflows and of the scripts for releases. scripts/gates.sh reads this file.

# actionlint finds shellcheck in PATH, and checks the steps with it.
gate_workflows() {
    local workflows=(.github/workflows/*.yml) actions=(.github/actions/*/action.yml)
    PATH=$PWD/target/tools/bin:$PATH actionlint "${workflows[@]}"
    # Only some of its audits need the network.
    target/tools/bin/zizmor --offline --no-progress "${workflows[@]}" "${actions[@]}"
    target/tools/bin/python scripts/check_workflows.py "${workflows[@]}" "${actions[@]}"
}

gate_release() { scripts/release_test.sh; }
