# postrider: one binary, built with cgo for SQLite.
TAGS       := sqlite_fts5
GO         ?= go
GOFLAGS_   := -tags $(TAGS)
BIN        := bin/postrider
FUZZTIME   ?= 20s
BENCH      ?= .
COUNT      ?= 1
GATE       ?=
PREFIX     ?= /usr/local
DESTDIR    ?=
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
TORTURE     = POSTRIDER_TORTURE=$(GATE) $(GO) test -timeout 48h -count 1 -v
# FUZZ is every fuzz target for a time. It is no $(MAKE) in a recipe: that would
# run what make -n is to show.
define FUZZ
set -e; for pkg in $$($(GO) list $(GOFLAGS_) ./...); do \
  for target in $$($(GO) test $(GOFLAGS_) -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
    echo "== $$pkg $$target"; \
    $(GO) test $(GOFLAGS_) -run '^$$' -fuzz "^$$target$$" -fuzztime $(1) -fuzzminimizetime 10x $$pkg; \
  done; \
done
endef
export CGO_ENABLED := 1

.PHONY: help build run lab test browser screenshots lint bench plot fuzz torture install deps clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

build: ## bin/postrider
	$(GO) build $(GOFLAGS_) -o $(BIN) ./cmd/postrider

run: build ## a working mail server for hamburger.edu, by config.toml, with alice and bob
	@$(BIN) --config config.toml init --demo
	@echo
	@exec $(BIN) --config config.toml serve --port-offset auto

lab: build ## the Internet in one process: watch a letter travel, at http://127.0.0.1:8080/
	@exec $(BIN) lab

deps: ## the programs that the tests run, from Debian's packages
	@integration/setup.sh

test: deps ## every test, with the race detector
	$(GO) test $(GOFLAGS_) -race -timeout 40m ./...
	$(GO) test -tags '$(TAGS) faults' -race -run 'R11$$' ./mailstore/sqlite
	cd integration/browser && $(GO) test -count 1 -timeout 30m ./...

browser: deps ## the lab's page in Chromium
	cd integration/browser && $(GO) test -count 1 -timeout 30m ./...

screenshots: deps ## docs/lab-*.png: the lab's page as the README shows it
	cd integration/browser && SCREENSHOTS=$(CURDIR)/docs $(GO) test -count 1 -v -run '^TestScreenshots$$' ./...

lint: ## gofmt, go vet, staticcheck, and the tests that hold the tree to its design
	@bad=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); test -z "$$bad" || { echo "not gofmt'ed:"; echo "$$bad"; exit 1; }
	$(GO) vet $(GOFLAGS_) ./...
	$(GO) vet -tags '$(TAGS) faults' ./mailstore/sqlite/...
	cd integration/browser && $(GO) vet ./...
	$(GO) run $(STATICCHECK) $(GOFLAGS_) ./...
	$(GO) test $(GOFLAGS_) ./integration -run '^TestTree'

bench: ## Go benchmarks; BENCH=pattern COUNT=n; larger: SCALE=1000000 BIG=10000000
	$(GO) test $(GOFLAGS_) -p 1 -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) $$($(GO) list $(GOFLAGS_) ./... | grep -v /integration)

plot: ## docs/scaling.svg: what mailboxes of 10,000 to 1,000,000 messages cost
	PLOT=$(CURDIR)/docs/scaling.svg $(GO) test $(GOFLAGS_) -count 1 -timeout 60m -v -run '^TestPlot$$' ./mailstore/sqlite

fuzz: ## every fuzz target for FUZZTIME each
	@$(call FUZZ,$(FUZZTIME))

torture: deps ## one gate of the reliability rules in full: make torture GATE=R1
	@case "$(GATE)" in R1|R2|R3|R4|R5|R6|R7|R8|R9|R10|R11|S1|S4|S5|S7) ;; *) \
	  echo "name the gate: make torture GATE=R1 (R1 to R11, S1, S4, S5, S7)"; exit 2;; esac
	@case "$(GATE)" in \
	  S1) $(call FUZZ,1h);; \
	  S5) $(TORTURE) $(GOFLAGS_) ./mailstore/message -run '$(GATE)$$';; \
	  R5|R6) $(TORTURE) $(GOFLAGS_) ./integration -run 'R5$$';; \
	  R10) $(TORTURE) $(GOFLAGS_) ./mta/queue -run '$(GATE)$$';; \
	  R11) $(TORTURE) -tags '$(TAGS) faults' ./mailstore/sqlite -run '$(GATE)$$';; \
	  *) $(TORTURE) $(GOFLAGS_) ./integration -run '$(GATE)$$';; \
	esac

install: build ## the binary, a systemd unit and a configuration; DESTDIR and PREFIX as usual
	install -D -m 755 $(BIN) $(DESTDIR)$(PREFIX)/bin/postrider
	sed 's,@PREFIX@,$(PREFIX),g' cmd/postrider/postrider.service.in > $(BIN).service
	install -D -m 644 $(BIN).service $(DESTDIR)/etc/systemd/system/postrider.service
	@if [ -e $(DESTDIR)/etc/postrider/config.toml ]; then \
	  echo "kept $(DESTDIR)/etc/postrider/config.toml"; \
	else \
	  install -d -m 755 $(DESTDIR)/etc/postrider; \
	  sed -e 's,^data_dir = "data"  *#,data_dir = "/var/lib/postrider" #,' config.toml > $(DESTDIR)/etc/postrider/config.toml; \
	  chmod 640 $(DESTDIR)/etc/postrider/config.toml; \
	fi
	@echo "Next: edit /etc/postrider/config.toml (hostname, [listen]), then"
	@echo "  useradd --system --home /var/lib/postrider postrider; chgrp postrider /etc/postrider/config.toml"
	@echo "  systemctl daemon-reload; systemctl enable --now postrider"
	@echo "  sudo -u postrider postrider init --domain YOUR.DOMAIN"

clean: ## remove what was built
	rm -rf bin
