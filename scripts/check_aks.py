"""Checks what the schemas do not see in cpp-examples/aks: check_aks.py

- In the manifests, the parts that name each other agree: ServiceAccount, Service, Job, ranks, label and annotation of
  the workload identity.
- The Dockerfile copies files that exist and that its .dockerignore lets through, and the packages that it installs are
  packages of Debian 12 (if this machine has Debian 12's lists).
- The variables of AKS's webhook are those that src/credential/ reads.
"""

import fnmatch
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
AKS = ROOT / "cpp-examples/aks"
WEBHOOK = ["AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST"]
errors = []


def expect(what, actual, wanted):
    if actual != wanted:
        errors.append(f"{what}: {actual!r} instead of {wanted!r}")


def check_manifest():
    text = "\n---\n".join(path.read_text(encoding="utf-8") for path in AKS.glob("*.yaml"))
    found = {item["kind"]: item for item in yaml.safe_load_all(text)}
    expect("kinds in the manifests", sorted(found), ["Job", "Service", "ServiceAccount"])
    account, service, job = found["ServiceAccount"], found["Service"], found["Job"]
    pod, (container,) = job["spec"]["template"], job["spec"]["template"]["spec"]["containers"]
    name = job["metadata"]["name"]
    env = {variable["name"]: variable for variable in container["env"]}
    port = service["spec"]["ports"][0]["port"]

    expect("the identity's annotation", list(account["metadata"]["annotations"]), ["azure.workload.identity/client-id"])
    expect("the label of the pods", pod["metadata"]["labels"].get("azure.workload.identity/use"), "true")
    expect("serviceAccountName", pod["spec"]["serviceAccountName"], account["metadata"]["name"])
    expect("subdomain", pod["spec"]["subdomain"], service["metadata"]["name"])
    expect("the Service's selector", service["spec"]["selector"], {"batch.kubernetes.io/job-name": name})
    expect("parallelism", job["spec"]["parallelism"], job["spec"]["completions"])
    expect("WORLD_SIZE", env["WORLD_SIZE"]["value"], str(job["spec"]["completions"]))
    expect("MASTER_ADDR", env["MASTER_ADDR"]["value"], f"{name}-0.{service['metadata']['name']}")
    expect("MASTER_PORT", env["MASTER_PORT"]["value"], str(port))
    rules = [rule["onExitCodes"] for rule in job["spec"]["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    expect("the container of podFailurePolicy", [rule["containerName"] for rule in rules], [container["name"]])


def instructions():
    """The instructions of the Dockerfile: name and text."""
    text = (AKS / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return [line.split(None, 1) for line in text.splitlines() if line]


def check_copies():
    lines = (AKS / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    ignored = [line for line in lines if line and line[0] not in "#!"]
    expect("what the .dockerignore leaves out", ignored, ["*"])
    sent = [line[1:] for line in lines if line.startswith("!")]
    used = set()
    for name, text in instructions():
        if name != "COPY" or "--from" in text:
            continue
        for source in text.split()[:-1]:
            # The packages are built later, by `make dist`.
            files = [source.replace("*", "0.1.0").replace("${TARGETARCH}", "amd64")]
            if not source.startswith("target/"):
                files = [str(path.relative_to(ROOT)) for path in ROOT.glob(source)]
            if not files:
                errors.append(f"Dockerfile: {source} does not exist")
            for file in files:
                rules = [rule for rule in sent if fnmatch.fnmatchcase(file, rule)]
                used.update(rules)
                if not rules:
                    errors.append(f"Dockerfile: its .dockerignore leaves out {file}")
    for rule in set(sent) - used:
        errors.append(f"Dockerfile.dockerignore: nothing is copied from {rule}")


def check_packages():
    packages = set()
    for name, text in instructions():
        for part in re.findall(r"apt-get install ([^&]*)", text) if name == "RUN" else []:
            packages.update(word for word in part.split() if word[0] not in "-/")
    expect("whether the Dockerfile installs packages", bool(packages), True)
    release = Path("/etc/os-release").read_text(encoding="utf-8")
    if "VERSION_CODENAME=bookworm" not in release or not shutil.which("apt-cache"):
        print("not checked: the names of the packages, since this is not Debian 12")
        return
    known = set(subprocess.run(["apt-cache", "pkgnames"], capture_output=True, text=True, check=True).stdout.split())
    if len(known) < 10_000:
        print("not checked: the names of the packages, since apt has no lists; `apt-get update` fetches them")
        return
    for package in sorted(packages - known):
        errors.append(f"Dockerfile: Debian 12 has no package {package}")
    print("packages:", *sorted(packages))


def check_webhook():
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src/credential").glob("*.rs"))
    page = (AKS / "README.md").read_text(encoding="utf-8")
    for variable in WEBHOOK:
        if f'"{variable}"' not in sources:
            errors.append(f"src/credential/ does not read {variable}")
        if f"`{variable}`" not in page:
            errors.append(f"README.md does not name {variable}")


check_manifest()
check_copies()
check_packages()
check_webhook()
sys.exit("\n".join(errors) if errors else 0)
