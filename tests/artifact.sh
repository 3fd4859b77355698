#!/usr/bin/env bash
# The built artifact, installed where no checkout is in sight: its playbooks, modules and documentation work from there.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$PWD
export PATH="$root/.venv/bin:$PATH"
# From a clean copy of what is tracked: the checkout holds environments and caches that no artifact should.
mkdir "$work/tree"
git ls-files -z -- . ':!collections' | tar --create --null --files-from=- | tar --extract --directory "$work/tree"
(cd "$work/tree" && ansible-galaxy collection build --output-path "$work/dist" >/dev/null)
cd "$work"
ansible-galaxy collection install --offline --no-deps --collections-path "$work/collections" dist/*.tar.gz >/dev/null
printf '[defaults]\ncollections_path = %s\n[inventory]\nignore_patterns = ^locks$\n' "$work/collections" >ansible.cfg
ansible-galaxy collection list | grep sophia_ai.mcp_swarm
cp -r "$root/inventories/local" inventory
rm -rf inventory/.state
for playbook in site preflight provision engine images deploy verify plan status teardown drain promote demote rebalance leave launch terminate; do
    ansible-playbook "sophia_ai.mcp_swarm.$playbook" -i inventory --syntax-check >/dev/null
    echo "playbook $playbook: ok"
done
for module in fleet_plan fleet_secrets fleet_verify image_build node_files node_firewall node_preflight swarm_node swarm_node_info swarm_objects swarm_rebalance swarm_stack lambda_instance lambda_ssh_key; do
    ansible-doc "sophia_ai.mcp_swarm.$module" | grep -q "$module"
    echo "documentation of $module: ok"
done
# The plan needs the services' and servers' sources: they are in the artifact, and give the same images.
ansible-playbook sophia_ai.mcp_swarm.plan -i inventory -e plan_secrets=false -e plan_dir="$work/plan" >/dev/null
(cd "$root" && ansible-playbook playbooks/plan.yml -i "$work/inventory" -e plan_secrets=false \
    -e plan_dir="$work/plan-checkout" >/dev/null)
diff <(grep -oE '"ref": "[^"]+"' plan/plan.json) <(grep -oE '"ref": "[^"]+"' plan-checkout/plan.json)
echo "the same images as from the checkout: ok"
