# Every target is one script; `PYTHON=python3.12 make test` picks another interpreter.
.PHONY: help demo test test-full test-clients test-gpu check bench study format clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' Makefile | expand -t 16

demo: ## install, train on the embedded photos, profile; 3 to 5 minutes on 2 cores once installed
	@scripts/demo

test: ## install, run the tests that need no GPU and only seconds each
	@scripts/test

test-full: ## as `test`, with the slow tests and the clients
	@scripts/test-full

test-clients: ## fastpipe inside accelerate, Lightning, Composer and others; writes docs/compatibility.md
	@scripts/test-clients

test-gpu: ## the tests that need a CUDA device; fails without one
	@scripts/test-gpu

check: ## format, lint, types, direction of imports
	@scripts/check

bench: ## every benchmark on the CPU, printed as records
	@scripts/bench

study: ## the page of the study's records and the published points, and its figures, without training
	@scripts/study

format: ## put the code into its form, with the safe fixes of the linter
	@scripts/format

clean: ## remove what can be made again, except .venv and runs
	@scripts/clean
