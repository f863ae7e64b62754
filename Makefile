# ringlab. `make demo` shows, `make check` proves, `make help` lists the rest.
# Non-recursive; objects, libraries and test programs lie under $(BUILD).

SANITIZE ?=
V        ?=
comma    := ,
BUILD    ?= build$(if $(SANITIZE),-$(subst $(comma),-,$(SANITIZE)))
CC       ?= gcc
PREFIX   ?= /usr/local
DESTDIR  ?=
PYTHON   ?= python3
VERSION  := 0.1.0

PACKAGES := glib-2.0 json-glib-1.0 libpcap
LUA      := lua5.4

WARNINGS := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
            -Wpointer-arith -Wcast-qual -Wwrite-strings -Wundef -Wvla
OPT      ?= -O2 -g
CPPFLAGS += -I. -D_GNU_SOURCE -DRINGLAB_VERSION='"$(VERSION)"'
CFLAGS   += -std=c11 $(OPT) $(WARNINGS) -fno-common -pthread
LDFLAGS  += -pthread
ifneq ($(SANITIZE),)
CFLAGS   += -fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=undefined
LDFLAGS  += -fsanitize=$(SANITIZE)
# Fences are what the code means; that the thread sanitizer does not see them is its business.
CFLAGS   += $(if $(findstring thread,$(SANITIZE)),-Wno-tsan)
endif
# pkg-config is asked when something is compiled, not when make starts: on a bare machine it comes
# only with ci/deps.sh. Then the answer is kept.
PKG_CFLAGS = $(eval PKG_CFLAGS := $$(shell pkg-config --cflags $(PACKAGES) $(LUA)))$(PKG_CFLAGS)
PKG_LIBS   = $(eval PKG_LIBS := $$(shell pkg-config --libs $(PACKAGES) $(LUA)))$(PKG_LIBS)

sources  = $(filter-out $(foreach d,$(1),$(wildcard $(d)/test_*.c $(d)/fuzz_*.c)),$(foreach d,$(1),$(wildcard $(d)/*.c)))
objects  = $(patsubst %,$(BUILD)/%.o,$(basename $(1)))

ABI_SRC     := $(call sources,models/abi)
CLIENT_SRC  := $(call sources,qtest_client)
MODELS_SRC  := $(call sources,models models/netmap models/vale models/ptnet models/backend)
HARNESS_SRC := $(filter-out harness/main.c,$(call sources,harness harness/scenario harness/report harness/bench harness/pktgen))
TEST_SRC    := $(wildcard models/test_*.c models/*/test_*.c qtest_client/test_*.c harness/test_*.c \
                          harness/*/test_*.c)

FUZZ_SRC    := $(wildcard models/fuzz_*.c models/*/fuzz_*.c)

CLIENT_LIB  := $(BUILD)/libringlab-client.a
MODELS_LIB  := $(BUILD)/libringlab-models.a
HARNESS_LIB := $(BUILD)/libharness.a
TESTS       := $(patsubst %.c,$(BUILD)/tests/%,$(TEST_SRC))

# One short line per step; V=1 shows the commands, -s nothing.
IS_SILENT := $(findstring s,$(firstword -$(MAKEFLAGS)))
say = $(if $(V),,@$(if $(IS_SILENT),,echo '  $(1)  $@' &&) )

.PHONY: all
all: $(BUILD)/ringlab $(CLIENT_LIB) $(MODELS_LIB) $(BUILD)/lua
	@:

# On a machine where nothing is installed yet: the packages first, then the rest, on all processors
# unless make was told otherwise.
IN_PARALLEL = $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))

.SECONDARY:
.DELETE_ON_ERROR:

$(CLIENT_LIB): $(call objects,$(CLIENT_SRC) $(ABI_SRC))
$(MODELS_LIB): $(call objects,$(MODELS_SRC) $(ABI_SRC))
$(HARNESS_LIB): $(call objects,$(HARNESS_SRC)) $(BUILD)/images/park/embed.o
$(BUILD)/%.a:
	@mkdir -p $(@D)
	@rm -f $@
	$(call say,AR)$(AR) rcs $@ $^

$(BUILD)/ringlab: $(BUILD)/harness/main.o $(HARNESS_LIB) $(MODELS_LIB) $(CLIENT_LIB)
	$(call say,LD)$(CC) $(LDFLAGS) -o $@ $^ $(PKG_LIBS)

$(BUILD)/tests/%: $(BUILD)/%.o $(HARNESS_LIB) $(MODELS_LIB) $(CLIENT_LIB)
	@mkdir -p $(@D)
	$(call say,LD)$(CC) $(LDFLAGS) -o $@ $^ $(PKG_LIBS) -lcmocka

# Built with clang and its sanitizers, see `fuzz` below.
$(BUILD)/fuzz/%: $(BUILD)/%.o $(MODELS_LIB) $(CLIENT_LIB)
	@mkdir -p $(@D)
	$(call say,LD)$(CC) $(subst fuzzer-no-link,fuzzer,$(LDFLAGS)) -o $@ $^ $(PKG_LIBS)

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(CPPFLAGS) $(CFLAGS) $(PKG_CFLAGS) -MMD -MP -c -o $@ $<

# ---- the parking ROM, assembled from source and embedded in the program ----
$(BUILD)/images/park/park.bin: images/park/park.S
	@mkdir -p $(@D)
	$(call say,AS)$(CC) -m32 -c -o $(@:.bin=.o) $<
	@objcopy -O binary -j .text $(@:.bin=.o) $@
	@test $$(stat -c %s $@) = 65536
$(BUILD)/images/park/embed.o: images/park/embed.S $(BUILD)/images/park/park.bin
	$(call say,AS)$(CC) -DPARK_ROM='"$(BUILD)/images/park/park.bin"' -c -o $@ $<

# The program finds the Lua library beside itself here, and in ../share/ringlab/lua when installed.
$(BUILD)/lua:
	@mkdir -p $(@D)
	@ln -sfn $(CURDIR)/scenarios/lib $@

# ---- the program inside a guest that boots: static, it is all there is but busybox ----
$(BUILD)/images/guest/ptnet: $(call objects,$(wildcard images/guest/*.c)) $(CLIENT_LIB)
	$(call say,LD)$(CC) $(LDFLAGS) -static -o $@ $^ $$(pkg-config --static --libs glib-2.0) 2>$@.log || \
	    { cat $@.log; exit 1; } # its warnings are about looking users up, which nobody does here

# ---- what people type ----
.PHONY: help demo check bench lint guest stress
help:
	@echo 'make demo       drive a stock QEMU with real traffic, no guest (installs what is missing)'
	@echo 'make check      prove it: unit tests, scenarios, register baselines, installation'
	@echo 'make            build $(BUILD)/ringlab and the libraries'
	@echo 'make bench      measure'
	@echo 'make stress     ten minutes of killed QEMUs and busy ptnets (STRESS_SECONDS=600, STRESS_SEED=)'
	@echo 'make guest      a guest that boots, which make check then tries the devices in'
	@echo 'make fuzz       throw anything at what strangers may write to, $(FUZZ_SECONDS) s per target'
	@echo 'make lint       clang-tidy, cppcheck, clang-format, shellcheck, who may include whom'
	@echo 'make install    to $$(DESTDIR)$$(PREFIX), now $(DESTDIR)$(PREFIX); uninstall takes it away'
	@echo 'make clean      remove what was built'
	@echo 'Variables: SANITIZE=address,undefined  BUILD=folder  PREFIX=  DESTDIR=  CC=  OPT=  V=1'

demo:
	@ci/deps.sh
	@$(MAKE) --no-print-directory $(IN_PARALLEL) all
	@$(CHECK_ENV) ci/with-hugepages.sh $(HUGEPAGES) $(BUILD)/ringlab run scenarios/demo.lua
	@echo '# what tcpdump makes of the frames that arrived:'
	@tcpdump -nqtr results/demo.pcap -c 6 'ip or arp' 2>/dev/null | sed 's/^/#   /' | cut -c 1-110

check:
	@ci/deps.sh
	@$(MAKE) --no-print-directory $(IN_PARALLEL) all $(TESTS)
	@$(CHECK_ENV) ci/with-hugepages.sh $(HUGEPAGES) ci/check.sh $(CHECKS)
# 2 MiB pages, for the scenarios that want their rings in them.
HUGEPAGES := 16
CHECKS     = $(TESTS) $(sort $(wildcard ci/test_*.sh)) '$(BUILD)/ringlab regs check' \
             '$(BUILD)/ringlab run scenarios'
# What the scripts below ask for; they are no part of this make.
CHECK_ENV  = BUILD=$(BUILD) SANITIZE=$(SANITIZE) CC='$(CC)' env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS

# A guest that boots, for ci/test_attach.sh: fetches Debian's kernel.
guest:
	@ci/deps.sh guest
	@$(MAKE) --no-print-directory $(IN_PARALLEL) $(BUILD)/images/guest/ptnet
	@ci/guest.sh $(BUILD)

# Ten minutes of QEMUs that are killed while their ptnets are busy.
stress: all
	@$(BUILD)/ringlab run ci/stress.lua

bench: all
	@$(BUILD)/ringlab bench

# libFuzzer's targets, FUZZ_SECONDS each, one after the other. What one finds is left under
# results/fuzz; so are its inputs, from which the next run goes on. Warnings are gcc's business.
FUZZ_SECONDS ?= 600
FUZZERS       = $(patsubst %.c,$(BUILD)-fuzz/fuzz/%,$(FUZZ_SRC))
fuzz:
	@ci/deps.sh fuzz
	@$(MAKE) --no-print-directory $(IN_PARALLEL) BUILD=$(BUILD)-fuzz CC=clang OPT='-O1 -g' WARNINGS= \
	    SANITIZE=fuzzer-no-link,address,undefined $(FUZZERS)
	@ci/fuzz.sh $(FUZZ_SECONDS) $(BUILD)-fuzz/fuzz $(FUZZ_SRC:.c=)

# ---- lint: each file's verdict is kept until it or a header changes ----
LINT_C     := $(sort $(CLIENT_SRC) $(ABI_SRC) $(MODELS_SRC) $(HARNESS_SRC) harness/main.c $(TEST_SRC) \
                     $(wildcard images/guest/*.c))
LINT_H     := $(wildcard $(foreach room,models qtest_client harness,$(room)/*.h $(room)/*/*.h))
LINT_LUA   := $(wildcard scenarios/*.lua scenarios/*/*.lua ci/*.lua)
LINT_SH    := .ci/run $(wildcard ci/*.sh) images/guest/init

lint:
	@ci/deps.sh lint
	@$(MAKE) --no-print-directory $(IN_PARALLEL) --keep-going lint-all
	@echo 'lint: $(words $(LINT_C) $(LINT_H)) C files, $(words $(LINT_LUA)) Lua files,' \
	    '$(words $(LINT_SH)) scripts and the walls are clean'

.PHONY: lint-all lint-format lint-cppcheck lint-walls lint-lua lint-sh lint-man
lint-all: lint-format lint-cppcheck lint-walls lint-lua lint-sh lint-man \
          $(patsubst %.c,$(BUILD)/lint/%.tidy,$(LINT_C))
lint-format:
	@clang-format --dry-run -Werror $(LINT_C) $(LINT_H)
lint-cppcheck:
	@cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr \
	    --error-exitcode=1 --suppressions-list=ci/cppcheck.txt --library=gtk \
	    '-DG_DEFINE_QUARK(a,b)=' '-DG_GNUC_PRINTF(a,b)=' -I. $(LINT_C)
lint-walls: all
	@ci/walls.py --self-test $(BUILD)
	@ci/walls.py $(BUILD)
lint-lua:
	@set -e; for f in $(LINT_LUA); do luac5.4 -p $$f; done # of several at once, it crashes
lint-sh:
	@shellcheck -x $(LINT_SH)
lint-man:
	@mandoc -T lint -W warning harness/ringlab.1
# clang does not know that cmocka's asserts end a test.
TIDY_TESTS := --checks=$(subst $(eval ) ,$(comma),$(addprefix -clang-analyzer-core.,\
                          DivideZero NullDereference NonNullParamChecker))
$(BUILD)/lint/%.tidy: %.c $(LINT_H) .clang-tidy
	@mkdir -p $(@D)
	@said=$$(clang-tidy --quiet $(if $(filter test_%,$(notdir $<)),$(TIDY_TESTS)) \
	    --warnings-as-errors='*' $< -- -std=c11 $(CPPFLAGS) $(PKG_CFLAGS) 2>&1) || \
	    { echo "$$said"; exit 1; }
	@touch $@

# ---- installation ----
INSTALLED_HEADERS := $(filter-out %_private.h %_outbox.h $(wildcard */test_*.h */*/test_*.h),\
                       $(wildcard models/*.h models/*/*.h qtest_client/*.h))
INSTALLED_LUA     := $(wildcard scenarios/lib/*.lua)
to                 = $(DESTDIR)$(PREFIX)

$(BUILD)/ringlab.pc: ci/ringlab.pc.in Makefile FORCE
	@mkdir -p $(@D)
	@sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' -e 's|@PACKAGES@|$(PACKAGES)|' $< >$@
.PHONY: FORCE install uninstall
FORCE:

install: all $(BUILD)/ringlab.pc
	install -d $(to)/bin $(to)/lib/pkgconfig $(to)/share/man/man1 $(to)/share/ringlab/lua \
	    $(addprefix $(to)/include/ringlab/,$(sort $(dir $(INSTALLED_HEADERS))))
	install $(BUILD)/ringlab $(to)/bin/ringlab
	install -m 644 $(CLIENT_LIB) $(MODELS_LIB) $(to)/lib
	install -m 644 $(BUILD)/ringlab.pc $(to)/lib/pkgconfig
	install -m 644 harness/ringlab.1 $(to)/share/man/man1
	install -m 644 $(BUILD)/images/park/park.bin $(to)/share/ringlab
	$(if $(INSTALLED_LUA),install -m 644 $(INSTALLED_LUA) $(to)/share/ringlab/lua)
	for h in $(INSTALLED_HEADERS); do install -m 644 $$h $(to)/include/ringlab/$$h || exit; done

uninstall:
	rm -f $(to)/bin/ringlab $(addprefix $(to)/lib/,$(notdir $(CLIENT_LIB) $(MODELS_LIB))) \
	    $(to)/lib/pkgconfig/ringlab.pc $(to)/share/man/man1/ringlab.1
	rm -rf $(to)/include/ringlab $(to)/share/ringlab

.PHONY: clean
clean:
	rm -rf build build-*

-include $(shell find $(BUILD) -path $(BUILD)/guest -prune -o -name '*.d' -type f -print 2>/dev/null)
