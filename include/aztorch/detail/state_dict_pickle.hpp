// Reads the pickle of a state_dict, as Python's torch.save writes it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "pickle.hpp"
#include "tensor_view.hpp"

namespace aztorch::detail {

/// The content of data.pkl of a state_dict file. The numbers of each tensor are checked against each other, so that a
/// TensorView from here can be made into a tensor without further checks.
///
/// Member functions throw PickleError for damage, and UnsupportedPickle for a pickle that is not a state_dict.
class StateDictPickle {
 public:
  /// Parses `bytes`, which must outlive the result: its texts point into them.
  explicit StateDictPickle(std::string_view bytes) : pickle_(bytes, is_allowed) {
    const auto& root = pickle_[pickle_.root()];
    if (root.kind != Pickle::Kind::dict) {
      throw UnsupportedPickle("it holds no state_dict but another Python object; save model.state_dict()");
    }
    for (std::size_t i = 0; i < root.items.size(); i += 2) {
      const auto& key = pickle_[root.items[i]];
      if (key.kind != Pickle::Kind::text) throw UnsupportedPickle("its dict has keys that are not strings");
      entries_[key.text] = root.items[i + 1];
    }
    if (root.state != Pickle::kNoNode) read_versions(lookup(root.state, "_metadata"));
  }

  /// The entries, sorted by name. If a key occurs twice, the last value counts, as in Python.
  const std::map<std::string_view, Pickle::Index>& entries() const noexcept { return entries_; }

  /// The version number that the module's class wrote with its part of the state_dict; 0 when the file has none.
  std::int64_t version_of(std::string_view module) const {
    const auto found = versions_.find(module);
    return found == versions_.end() ? 0 : found->second;
  }

  bool is_dict(Pickle::Index value) const { return pickle_[value].kind == Pickle::Kind::dict; }

  bool is_tensor(Pickle::Index value) const {
    const auto& node = pickle_[value];
    return node.kind == Pickle::Kind::call && pickle_[node.items[0]].text.substr(0, 8) == "_rebuild";
  }

  /// The tensor that the value describes. Its texts point into the bytes of the pickle.
  TensorView tensor(Pickle::Index value) const { return rebuild(value, kMaxWrappers); }

 private:
  using Index = Pickle::Index;
  using Kind = Pickle::Kind;
  static constexpr int kMaxWrappers = 3;       // calls around _rebuild_tensor_v2; today's files have at most one
  static constexpr std::size_t kMaxDims = 64;  // as in torch

  static bool is_allowed(std::string_view module, std::string_view name) {
    if (module == "collections") return name == "OrderedDict";
    if (module == "torch._utils") {
      return name == "_rebuild_tensor_v2" || name == "_rebuild_parameter" || name == "_rebuild_parameter_with_state";
    }
    if (module == "torch._tensor") return name == "_rebuild_from_type_v2";
    if (module == "torch.nn.parameter") return name == "Parameter";
    if (module != "torch") return false;
    return name == "Tensor" || std::any_of(kDtypes.begin(), kDtypes.end(),
                                           [name](const DtypeInfo& known) { return known.storage == name; });
  }

  /// The value of a text key among the first 16 of a dict; kNoNode when there is none, or `dict` is not a dict.
  /// The search is limited, because a hostile file may refer to one large dict many times.
  Index lookup(Index dict, std::string_view key) const {
    constexpr std::size_t kMaxItems = 32;
    const auto& node = pickle_[dict];
    if (node.kind != Kind::dict) return Pickle::kNoNode;
    for (std::size_t i = 0; i < std::min(node.items.size(), kMaxItems); i += 2) {
      const auto& candidate = pickle_[node.items[i]];
      if (candidate.kind == Kind::text && candidate.text == key) return node.items[i + 1];
    }
    return Pickle::kNoNode;
  }

  bool is_true(Index dict, std::string_view key) const {
    const Index value = lookup(dict, key);
    return value != Pickle::kNoNode && pickle_[value].kind == Kind::boolean && pickle_[value].integer != 0;
  }

  /// Reads {"": {"version": 1}, "bn1": {"version": 2}, …}.
  void read_versions(Index metadata) {
    if (metadata == Pickle::kNoNode || pickle_[metadata].kind != Kind::dict) return;
    const auto& items = pickle_[metadata].items;
    for (std::size_t i = 0; i < items.size(); i += 2) {
      const Index version = lookup(items[i + 1], "version");
      if (version == Pickle::kNoNode || pickle_[version].kind != Kind::integer) continue;
      if (pickle_[items[i]].kind == Kind::text) versions_[pickle_[items[i]].text] = pickle_[version].integer;
    }
  }

  [[noreturn]] static void fail(const std::string& what) { throw PickleError("damaged state_dict: " + what); }

  const std::vector<Index>& tuple(Index value, std::size_t at_least) const {
    const auto& node = pickle_[value];
    if (node.kind != Kind::tuple || node.items.size() < at_least) fail("a tuple is too short or missing");
    return node.items;
  }

  std::string_view text(Index value) const {
    if (pickle_[value].kind != Kind::text) fail("a string is missing");
    return pickle_[value].text;
  }

  std::int64_t count(Index value) const {
    const auto& node = pickle_[value];
    if (node.kind != Kind::integer || node.integer < 0) fail("a size, stride or offset is not a number from 0 up");
    return node.integer;
  }

  std::vector<std::int64_t> counts(Index value) const {
    const auto& items = tuple(value, 0);
    if (items.size() > kMaxDims) fail("a tensor of " + std::to_string(items.size()) + " dimensions");
    std::vector<std::int64_t> result;
    result.reserve(items.size());
    for (const Index item : items) result.push_back(count(item));
    return result;
  }

  TensorView rebuild(Index value, int wrappers_left) const {
    const auto& call = pickle_[value];
    if (call.kind != Kind::call) fail("a tensor is missing");
    return rebuild(pickle_[call.items[0]].text, call.items[1], wrappers_left);
  }

  TensorView rebuild(std::string_view function, Index arguments, int wrappers_left) const {
    if (function == "_rebuild_tensor_v2") return view(tuple(arguments, 6));
    if (wrappers_left == 0) fail("tensors wrapped in each other");
    if (function == "_rebuild_parameter" || function == "_rebuild_parameter_with_state") {
      return rebuild(tuple(arguments, 3)[0], wrappers_left - 1);
    }
    // (function, type, its arguments, attributes): a tensor with Python attributes, which are ignored.
    if (function == "_rebuild_from_type_v2") {
      const auto& items = tuple(arguments, 4);
      if (pickle_[items[0]].kind != Kind::global) fail("a tensor's function is missing");
      return rebuild(pickle_[items[0]].text, items[2], wrappers_left - 1);
    }
    fail("a tensor is missing");
  }

  /// Reads the arguments (storage, offset, sizes, strides, requires_grad, hooks, [metadata]).
  TensorView view(const std::vector<Index>& arguments) const {
    if (pickle_[arguments[0]].kind != Kind::persistent) fail("a tensor without a storage");
    // ("storage", type, key, location, number of elements)
    const auto& storage = tuple(pickle_[arguments[0]].items[0], 5);
    if (text(storage[0]) != "storage") fail("a tensor without a storage");
    if (text(storage[3]) == "meta") throw UnsupportedPickle("it was saved from the device \"meta\" and has no values");
    const DtypeInfo& dtype = dtype_of_storage(storage[1]);
    const auto elements = static_cast<std::uint64_t>(count(storage[4]));
    if (elements > UINT64_MAX / dtype.size) fail("a storage of " + std::to_string(elements) + " elements");
    TensorView result;
    result.storage = text(storage[2]);
    result.storage_bytes = elements * dtype.size;
    result.dtype = dtype.dtype;
    result.offset = count(arguments[1]);
    result.sizes = counts(arguments[2]);
    result.strides = counts(arguments[3]);
    check_bounds(result, elements);
    if (arguments.size() > 6) {
      result.conjugate = is_true(arguments[6], "conj");
      result.negative = is_true(arguments[6], "neg");
    }
    return result;
  }

  const DtypeInfo& dtype_of_storage(Index type) const {
    for (const auto& known : kDtypes) {
      if (pickle_.is_global(type, "torch", known.storage)) return known;
    }
    fail("a storage without a type");
  }

  static void check_bounds(const TensorView& view, std::uint64_t available) {
    if (view.sizes.size() != view.strides.size()) fail("a tensor with other numbers of sizes and strides");
    std::uint64_t last = static_cast<std::uint64_t>(view.offset);
    std::uint64_t elements = 1;
    bool empty = false;
    for (std::size_t i = 0; i < view.sizes.size(); ++i) {
      const auto size = static_cast<std::uint64_t>(view.sizes[i]);
      const auto stride = static_cast<std::uint64_t>(view.strides[i]);
      if (size == 0) {
        empty = true;
        continue;
      }
      // A stride of 0 repeats elements, so a small file could otherwise claim any amount of memory.
      if (elements > (std::uint64_t{1} << 48) / size) fail("a tensor too large for any memory");
      elements *= size;
      if (stride != 0 && size - 1 > (UINT64_MAX - last) / stride) fail("a tensor reaches outside its storage");
      last += (size - 1) * stride;
    }
    if (!empty && last >= available) fail("a tensor reaches outside its storage");
    if (empty && static_cast<std::uint64_t>(view.offset) > available) fail("a tensor starts outside its storage");
  }

  Pickle pickle_;
  std::map<std::string_view, Index> entries_;
  std::map<std::string_view, std::int64_t> versions_;
};

}  // namespace aztorch::detail
