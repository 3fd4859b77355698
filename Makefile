# Everything a person types. `make help` lists it.
INVENTORY ?= inventories/local
ARGS ?=
FUZZ_SECONDS ?= 60
PLAYBOOK = scripts/playbook -i $(INVENTORY) $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help up down plan verify status rollback prune check lint test bench bench-gateway soak-gateway fuzz-gateway lock docs bootstrap clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

up: ## bring the fleet to what the inventory says, and prove it
	@$(PLAYBOOK) site.yml

down: ## remove the fleet and everything it made (data too; ARGS="-e teardown_volumes=false" keeps it)
	@$(PLAYBOOK) playbooks/teardown.yml

plan: ## show what the inventory compiles to; changes nothing
	@$(PLAYBOOK) playbooks/plan.yml -e plan_dir=$(CURDIR)/.cache/plan/$(notdir $(INVENTORY)) -e plan_secrets=false

verify: ## ask every server through the edge
	@$(PLAYBOOK) playbooks/verify.yml

status: ## what runs and since when, releases, what was changed by hand, what failed last
	@$(PLAYBOOK) playbooks/status.yml

rollback: ## go back to the release before (ARGS="-e release=7" to that one)
	@$(PLAYBOOK) playbooks/rollback.yml

prune: ## remove what no kept release needs: old images, secrets, configs (ARGS=--check only tells)
	@$(PLAYBOOK) playbooks/prune.yml

check: ## linters, types, unit tests: the fast part
	@scripts/test check

lint: ## linters alone
	@scripts/test lint

test: ## everything, on real engines
	@scripts/test all

bench: ## measure what docs/performance.md states of fleets, on a node of its own (ONLY=builds|deploys|nodes KEEP=1)
	@scripts/bootstrap --dev
	@PYTHONPATH=scripts .venv/bin/python -m fleetbench

bench-gateway: ## measure the gateway beside proxies and other gateways (ROUNDS=5 SECONDS=2 ONLY=...)
	@scripts/bootstrap --dev
	@PATH="$(CURDIR)/.tools/uv/bin:$$PATH" PYTHONPATH=services/gateway .venv/bin/python -m bench

soak-gateway: ## ten minutes of steady load; memory and open files must stay flat
	@scripts/bootstrap --dev && .venv/bin/python services/gateway/tests/soak/soak.py --minutes 10

fuzz-gateway: ## coverage-guided fuzzing of the gateway's parsers, FUZZ_SECONDS each (needs pip install atheris)
	@scripts/bootstrap --dev && .venv/bin/python services/gateway/tests/fuzz/run.py --seconds $(FUZZ_SECONDS) all

docs: ## write docs/catalogue.md anew from the schema
	@scripts/bootstrap && .venv/bin/python scripts/catalogue_docs.py --write

lock: ## resolve the controller's and the services' dependencies anew
	@scripts/bootstrap --dev
	@for project in . services/gateway services/runtime servers; do (cd $$project && uv lock --upgrade); done

bootstrap: ## only make the private environment in .venv
	@scripts/bootstrap

clean: ## remove the private environment and caches
	rm -rf .venv .tools .cache .ansible .mypy_cache .ruff_cache .pytest_cache dist
