# The gates of cpp-examples/aks. scripts/gates.sh reads this file.

readonly aks=cpp-examples/aks

# Fills in the manifests by the commands of the README, and checks them against the schemas of the Kubernetes versions
# that AKS supports.
gate_aks() {
    local commands file filled=$work/aks.yaml version
    target/tools/bin/hadolint "$aks/Dockerfile"
    commands=$(sed -n 's/^\(envsubst .*\) | kubectl apply -f -$/\1/p' "$aks/README.md")
    for file in "$aks"/*.yaml; do
        [[ $commands == *"<$file"* ]] || fail "$aks/README.md has no line 'envsubst … <$file | kubectl apply -f -'"
    done
    CLIENT_ID=11111111-2222-3333-4444-555555555555 IMAGE=example.azurecr.io/aztorch-train:1 \
        CONTAINER_URL=https://example.blob.core.windows.net/images bash -euc "$(sed 'a echo ---' <<<"$commands")" >"$filled"
    ! grep -n '\${' "$filled" || fail 'these variables are not filled in'
    for version in 1.34 1.35 1.36 1.37; do
        target/tools/bin/kubernetes-validate --strict --kubernetes-version "$version" "$filled"
    done
    target/tools/bin/python scripts/check_aks.py
}

# Trains as the manifest's Job does: with its options and variables, on as many ranks, killed and started again.
gate_aks_run() {
    build_examples
    AZTORCH_EXAMPLES=$target/cmake/examples with_server target/tools/bin/python tests/examples/test_aks.py
}
