// The pickle reader and writer, on valid, damaged and hostile input. Without LibTorch and network; also run under ASan.
// Usage: pickle_test FIXTURE_DIRECTORY [FILTER]
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <aztorch/detail/state_dict_pickle.hpp>
#include <aztorch/detail/state_dict_pickle_writer.hpp>
#include <aztorch/detail/tensor_view.hpp>

#include "check.hpp"

using aztorch::detail::Dtype;
using aztorch::detail::Pickle;
using aztorch::detail::PickleError;
using aztorch::detail::UnsupportedPickle;
using aztorch::detail::StateDictPickle;
using aztorch::detail::StateDictPickleWriter;
using aztorch::detail::TensorView;

namespace {

std::string fixtures;

std::string fixture(const std::string& name) {
  std::ifstream file(fixtures + "/" + name, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(file), {}};
  if (bytes.empty()) throw std::runtime_error("no fixture " + name);
  return bytes;
}

// Whether all of the file is accepted. Any exception but a PickleError fails the test. The bytes are copied into memory
// of exactly their size, so that ASan finds a read past the end.
bool is_accepted(std::string_view bytes) {
  const std::vector<char> exact(bytes.begin(), bytes.end());
  try {
    const StateDictPickle state(std::string_view(exact.data(), exact.size()));
    for (const auto& entry : state.entries()) {
      if (state.is_tensor(entry.second)) state.tensor(entry.second);
    }
    return true;
  } catch (const PickleError&) {
    return false;
  }
}

std::string error_of(std::string_view bytes) {
  try {
    const StateDictPickle state(bytes);
    for (const auto& entry : state.entries()) state.tensor(entry.second);
  } catch (const PickleError& error) {
    return error.what();
  }
  return "no error";
}

TensorView plain_view() {
  TensorView view;
  view.storage = "0";
  view.storage_bytes = 24;
  view.sizes = {2, 3};
  view.strides = {3, 1};
  return view;
}

std::string pickled(const TensorView& view) {
  StateDictPickleWriter writer;
  writer.add("weight", view);
  return writer.finish();
}

bool any_global(std::string_view, std::string_view) { return true; }

Pickle parse(std::string_view bytes) { return Pickle(bytes, any_global); }

}  // namespace

TEST(files_of_python_are_read) {
  for (const char* version : {"1.13", "2.15"}) {
    const std::string bytes = fixture(std::string("state_dict-") + version + ".pkl");
    const StateDictPickle state(bytes);
    EXPECT_EQUAL(state.entries().size(), 11U);
    const TensorView conv = state.tensor(state.entries().at("conv.weight"));
    EXPECT(conv.dtype == Dtype::float32);
    EXPECT(conv.sizes == std::vector<std::int64_t>{2, 1, 3, 3});
    EXPECT(conv.strides == std::vector<std::int64_t>{9, 9, 3, 1});
    EXPECT_EQUAL(conv.storage_bytes, 72U);
    EXPECT(state.tensor(state.entries().at("bn.num_batches_tracked")).dtype == Dtype::int64);
    EXPECT_EQUAL(state.tensor(state.entries().at("tied.weight")).storage,
                state.tensor(state.entries().at("block.0.weight")).storage);
  }
}

TEST(files_of_the_writer_are_read) {
  TensorView view = plain_view();
  view.dtype = Dtype::int64;
  view.storage_bytes = std::uint64_t{8} << 40;
  view.offset = std::int64_t{1} << 39;
  const std::string bytes = pickled(view);
  const StateDictPickle state(bytes);
  const TensorView read = state.tensor(state.entries().at("weight"));
  EXPECT_EQUAL(read.storage, "0");
  EXPECT_EQUAL(read.storage_bytes, view.storage_bytes);
  EXPECT(read.dtype == Dtype::int64);
  EXPECT_EQUAL(read.offset, view.offset);
  EXPECT(read.sizes == view.sizes);
  EXPECT(read.strides == view.strides);
}

TEST(every_scalar_opcode_is_read) {
  const auto integer = [](std::string_view bytes) {
    const Pickle pickle = parse(bytes);
    const auto& node = pickle[pickle.root()];
    return node.kind == Pickle::Kind::integer ? node.integer : -999;
  };
  EXPECT_EQUAL(integer("K\xff."), 255);
  EXPECT_EQUAL(integer("M\x01\x02."), 513);
  EXPECT_EQUAL(integer(std::string_view("J\xfe\xff\xff\xff.", 6)), -2);
  EXPECT_EQUAL(integer(std::string_view("\x8a\x00.", 3)), 0);
  EXPECT_EQUAL(integer("\x8a\x01\xff."), -1);
  EXPECT_EQUAL(integer(std::string_view("\x8a\x02\xff\x00.", 5)), 255);
  EXPECT_EQUAL(integer(std::string_view("\x8b\x01\x00\x00\x00\x05.", 7)), 5);
  const Pickle real = parse(std::string_view("G\x3f\xf8\x00\x00\x00\x00\x00\x00.", 10));
  EXPECT_EQUAL(real[real.root()].real, 1.5);
  const Pickle text = parse(std::string_view("\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x02hi\x94.", 17));
  EXPECT_EQUAL(text[text.root()].text, "hi");
  const Pickle big = parse(std::string_view("\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01.", 12));
  EXPECT(big[big.root()].kind == Pickle::Kind::opaque);
}

TEST(containers_and_the_memo_are_read) {
  const Pickle pickle = parse("(K\x01](K\x02K\x03""e}K\x04K\x05s\x85""tq\x07""0h\x07.");
  const auto& root = pickle[pickle.root()];
  EXPECT_EQUAL(root.items.size(), 3U);
  EXPECT_EQUAL(pickle[root.items[1]].items.size(), 2U);
  EXPECT(pickle[root.items[2]].kind == Pickle::Kind::tuple);
  EXPECT(pickle[pickle[root.items[2]].items[0]].kind == Pickle::Kind::dict);
}

TEST(a_global_that_is_not_allowed_is_refused_and_named) {
  EXPECT_THROWS(UnsupportedPickle, StateDictPickle("cposix\nsystem\n)R."),
               EXPECT_CONTAINS(thrown.what(), "posix.system"));
  EXPECT_THROWS(UnsupportedPickle, StateDictPickle("\x80\x04\x8c\x08""builtins\x8c\x04""eval\x93."),
               EXPECT_CONTAINS(thrown.what(), "builtins.eval"));
  EXPECT_THROWS(UnsupportedPickle, StateDictPickle("ctorch._utils\n_rebuild_sparse_tensor\n)R."),
               EXPECT_CONTAINS(thrown.what(), "torch._utils._rebuild_sparse_tensor"));
  // The message must not carry control characters to a terminal or a log.
  EXPECT_THROWS(UnsupportedPickle, StateDictPickle("cos\x1b[2J\nsystem\n)R."),
               EXPECT(!check::contains(thrown.what(), "\x1b")));
}

TEST(opcodes_that_create_objects_are_refused) {
  for (const std::string opcode : {"i", "o", "\x82", "\x83", "\x84", "P", "\x92", "\x97", "\x98"}) {
    EXPECT_THROWS(UnsupportedPickle, StateDictPickle("(N" + opcode + "posix\nsystem\n."),
                 EXPECT_CONTAINS(thrown.what(), "opcode"));
  }
}

TEST(misuse_of_the_stack_is_an_error) {
  const std::string_view broken[] = {
      "", ".", "0.", "1.", "2.", "t.", "a.", "]a.", "]N", "NN.", "(.", "(N.", "N(.", "s.", "}Ns.", "}(Nu.", "NNa.",
      "NNNs.", "R.", "N)R.", "ccollections\nOrderedDict\nNR.", "NNb.", "h\x01.", "j\x01\x01\x01\x01.", "q\x01.",
      "Nq\x7f.", "Q.", "\x85.", "(\x86.", "N(\x85.", "N(\x85""1.", "\x93.", "NN\x93.", "cposix", "cposix\nsystem",
      "\x80\x01N.",
      "\x80\x09N.", "X\xff\xff\xff\xff.", "\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", "\x8b\xff\xff\xff\xff.",
      "ccollections\nOrderedDict\n(NtR.", "]N\x90.", "\x94.",
  };
  for (const std::string_view bytes : broken) {
    EXPECT_THROWS(PickleError, Pickle(bytes, any_global), EXPECT(std::string(thrown.what()) != ""));
  }
}

TEST(cycles_and_deep_nesting_are_errors_not_crashes) {
  EXPECT(!is_accepted("]q\x01h\x01""a."));
  std::string deep = "]";
  for (int i = 0; i < 1'000'000; ++i) deep += "\x85";
  EXPECT(!is_accepted(deep + "."));
  EXPECT(!is_accepted(std::string(2'000'000, '(') + "."));
  // A tensor that is wrapped in itself, through the memo.
  EXPECT(!is_accepted("}(X\x01\x00\x00\x00" "actorch._utils\n_rebuild_parameter\n(NNNtRu."));
}

TEST(the_number_of_values_is_limited) {
  const std::string many(std::size_t{5} << 20, ']');
  EXPECT_CONTAINS(error_of(many + "."), "values");
  // Memo references to a large tuple must not copy it.
  std::string references = "(" + std::string(1 << 20, 'N') + "tq" + '\x01' + "0ctorch\nTensor\nq" + '\x02' + "0]";
  for (int i = 0; i < (1 << 18); ++i) references += "h\x02h\x01R0";
  EXPECT_CONTAINS(error_of(references + "."), "no state_dict");
}

TEST(tensors_outside_their_storage_are_errors) {
  EXPECT_EQUAL(error_of(pickled(plain_view())), "no error");
  const auto refused = [](void (*change)(TensorView&), const char* reason) {
    TensorView view = plain_view();
    change(view);
    EXPECT_CONTAINS(error_of(pickled(view)), reason);
  };
  refused([](TensorView& view) { view.sizes = {2, 4}; view.strides = {4, 1}; }, "outside");
  refused([](TensorView& view) { view.offset = 1; }, "outside");
  refused([](TensorView& view) { view.offset = INT64_MAX; }, "outside");
  refused([](TensorView& view) { view.offset = -1; }, "0 up");
  refused([](TensorView& view) { view.strides = {-3, 1}; }, "0 up");
  refused([](TensorView& view) { view.sizes = {-1, 3}; }, "0 up");
  refused([](TensorView& view) { view.strides = {INT64_MAX, INT64_MAX}; }, "outside");
  refused([](TensorView& view) { view.sizes = {INT64_MAX, INT64_MAX}; }, "too large");
  refused([](TensorView& view) { view.sizes = {INT64_MAX, 1}; view.strides = {0, 1}; }, "too large");
  refused([](TensorView& view) { view.sizes = {2, 3, 1}; }, "numbers of sizes");
  refused([](TensorView& view) { view.sizes.assign(65, 1); view.strides.assign(65, 1); }, "dimensions");
  refused([](TensorView& view) { view.sizes = {0, 3}; view.offset = 7; }, "outside");
  refused([](TensorView& view) { view.storage_bytes = 0; }, "outside");
}

TEST(unusual_but_valid_views_are_accepted) {
  const auto accepted = [](void (*change)(TensorView&)) {
    TensorView view = plain_view();
    change(view);
    EXPECT_EQUAL(error_of(pickled(view)), "no error");
  };
  accepted([](TensorView& view) { view.sizes = {}; view.strides = {}; view.offset = 5; });
  accepted([](TensorView& view) { view.sizes = {0, 3}; view.storage_bytes = 0; });
  accepted([](TensorView& view) { view.sizes = {100, 6}; view.strides = {0, 1}; });
  accepted([](TensorView& view) { view.sizes = {3, 2}; view.strides = {1, 3}; });
  accepted([](TensorView& view) { view.sizes = {1}; view.strides = {INT64_MAX}; });
}

TEST(a_truncated_file_is_an_error) {
  const std::string whole = fixture("state_dict-2.15.pkl");
  EXPECT(is_accepted(whole));
  for (std::size_t length = 0; length < whole.size(); ++length) EXPECT(!is_accepted(whole.substr(0, length)));
}

TEST(changed_bytes_do_not_crash) {
  const std::string whole = fixture("state_dict-1.13.pkl");
  int refused = 0;
  for (std::size_t position = 0; position < whole.size(); ++position) {
    for (const char value : {'\0', '\xff', '(', 'Q', 'R', 'c', 'h', 'j', 't', 'u', '.', '\x8a', '\x7f'}) {
      std::string changed = whole;
      changed[position] = value;
      if (!is_accepted(changed)) ++refused;
    }
  }
  EXPECT(refused > 1000);
}

TEST(random_opcodes_do_not_crash) {
  std::mt19937 random(20240131);
  constexpr char alphabet[] = "(.012NJKMGUTXC)\x85\x86\x87t]lae}sucRbQqrhj\x88\x89\x8a\x8c\x8f\x90\x93\x94\x01\x00\n";
  int refused = 0;
  for (int round = 0; round < 200'000; ++round) {
    std::string program(1 + random() % 40, ' ');
    for (char& byte : program) byte = alphabet[random() % (sizeof alphabet - 1)];
    if (!is_accepted(program)) ++refused;
  }
  EXPECT(refused > 100'000);
}

// Valid files with a few edits each: bytes changed, inserted, removed, repeated, and the end of another file. With
// another seed and more runs: AZTORCH_FUZZ_SEED=7 AZTORCH_FUZZ_RUNS=1000000.
TEST(edited_files_do_not_crash) {
  const auto setting = [](const char* name, unsigned long default_value) {
    const char* value = std::getenv(name);
    return value == nullptr ? default_value : std::strtoul(value, nullptr, 10);
  };
  const auto seed = setting("AZTORCH_FUZZ_SEED", 1);
  const auto runs = setting("AZTORCH_FUZZ_RUNS", 20'000);
  std::printf("       AZTORCH_FUZZ_SEED=%lu AZTORCH_FUZZ_RUNS=%lu\n", seed, runs);
  std::fflush(stdout);  // before a sanitizer ends the program
  std::mt19937 random(static_cast<std::mt19937::result_type>(seed));
  const auto below = [&random](std::size_t bound) { return bound == 0 ? 0 : random() % bound; };
  const std::vector<std::string> files{fixture("state_dict-1.13.pkl"), fixture("state_dict-2.15.pkl"),
                                       pickled(plain_view())};
  constexpr std::string_view opcodes =
      "(.012NJKMGUTXC)\x85\x86\x87t]lae}sucRbQqrhj\x88\x8a\x8c\x8f\x90\x93\x94\x95\xff";
  unsigned long refused = 0;
  for (unsigned long run = 0; run < runs; ++run) {
    std::string file = files[below(files.size())];
    for (auto edits = 1 + below(4); edits > 0; --edits) {
      const auto at = below(file.size() + 1);
      const auto length = below(32);
      const std::string part = file.substr(at, length);
      switch (below(5)) {
        case 0: if (at < file.size()) file[at] = static_cast<char>(random()); break;
        case 1: file.insert(at, 1, opcodes[below(opcodes.size())]); break;
        case 2: file.erase(at, length); break;
        case 3: file.insert(at, part); break;
        default: {
          const std::string& other = files[below(files.size())];
          file.replace(at, std::string::npos, other.substr(below(other.size())));
        }
      }
    }
    if (!is_accepted(file)) ++refused;
  }
  EXPECT(refused > runs / 2);
}

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: pickle_test FIXTURE_DIRECTORY [FILTER]\n");
    return 2;
  }
  fixtures = argv[1];
  return check::run_all(argc - 1, argv + 1);
}
