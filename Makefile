# ringlab. `make demo` shows, `make check` proves, `make help` lists the rest.
# Non-recursive; objects, libraries and test programs lie under $(BUILD).

SANITIZE ?=
comma    := ,
BUILD    ?= build$(if $(SANITIZE),-$(subst $(comma),-,$(SANITIZE)))
CC       ?= gcc
PREFIX   ?= /usr/local
PYTHON   ?= python3
VERSION  := 0.1.0

PACKAGES := glib-2.0 json-glib-1.0
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
endif
# pkg-config is asked when something is compiled, not when make starts: on a bare machine it comes
# only with ci/deps.sh.
PKG_CFLAGS = $(shell pkg-config --cflags $(PACKAGES) $(LUA))
PKG_LIBS   = $(shell pkg-config --libs $(PACKAGES) $(LUA))

sources  = $(filter-out $(foreach d,$(1),$(wildcard $(d)/test_*.c)),$(foreach d,$(1),$(wildcard $(d)/*.c)))
objects  = $(patsubst %,$(BUILD)/%.o,$(basename $(1)))

ABI_SRC     := $(call sources,models/abi)
CLIENT_SRC  := $(call sources,qtest_client)
MODELS_SRC  := $(call sources,models)
HARNESS_SRC := $(filter-out harness/main.c,$(call sources,harness harness/scenario harness/report harness/bench))
TEST_SRC    := $(wildcard models/abi/test_*.c models/test_*.c qtest_client/test_*.c harness/test_*.c \
                          harness/*/test_*.c)

CLIENT_LIB  := $(BUILD)/libringlab-client.a
MODELS_LIB  := $(BUILD)/libringlab-models.a
HARNESS_LIB := $(BUILD)/libharness.a
TESTS       := $(patsubst %.c,$(BUILD)/tests/%,$(TEST_SRC))

.PHONY: all
all: $(BUILD)/ringlab $(CLIENT_LIB) $(MODELS_LIB)

.SECONDARY:
.DELETE_ON_ERROR:

$(CLIENT_LIB): $(call objects,$(CLIENT_SRC) $(ABI_SRC))
$(MODELS_LIB): $(call objects,$(MODELS_SRC) $(ABI_SRC))
$(HARNESS_LIB): $(call objects,$(HARNESS_SRC)) $(BUILD)/images/park/embed.o
$(BUILD)/%.a:
	@mkdir -p $(@D)
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/ringlab: $(BUILD)/harness/main.o $(HARNESS_LIB) $(MODELS_LIB) $(CLIENT_LIB)
	$(CC) $(LDFLAGS) -o $@ $^ $(PKG_LIBS)

$(BUILD)/tests/%: $(BUILD)/%.o $(HARNESS_LIB) $(MODELS_LIB) $(CLIENT_LIB)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^ $(PKG_LIBS) -lcmocka

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(PKG_CFLAGS) -MMD -MP -c -o $@ $<

# ---- the parking ROM, assembled from source and embedded in the program ----
$(BUILD)/images/park/park.bin: images/park/park.S
	@mkdir -p $(@D)
	$(CC) -m32 -c -o $(@:.bin=.o) $<
	objcopy -O binary -j .text $(@:.bin=.o) $@
	@test $$(stat -c %s $@) = 65536
$(BUILD)/images/park/embed.o: images/park/embed.S $(BUILD)/images/park/park.bin
	$(CC) -DPARK_ROM='"$(BUILD)/images/park/park.bin"' -c -o $@ $<

# ---- checks ----
.PHONY: unit-tests
unit-tests: $(TESTS)
	@set -e; for t in $(TESTS); do echo "# $$t"; $$t; done

.PHONY: clean
clean:
	rm -rf build build-*

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
