// Compares a state_dict file with a module, before any tensor is read.
#pragma once

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include "../../detail/state_dict_pickle.hpp"
#include "../../incompatible_keys.hpp"
#include "module_tensors.hpp"

namespace aztorch::detail {

/// A tensor of the module and the tensor of the file to be copied into it.
struct Assignment {
  at::Tensor target;
  TensorView source;
};

/// Compares the names and shapes of a state_dict file with those of a module. Throws PickleError for a damaged file.
class StateDictComparison {
 public:
  StateDictComparison(const StateDictPickle& file, const NamedTensors& module) {
    for (const auto& [name, target] : module) compare(file, name, target);
    std::set<std::string_view> known;
    for (const auto& tensor : module) known.insert(tensor.first);
    for (const auto& [name, value] : file.entries()) {
      if (known.count(name) != 0) continue;
      keys_.unexpected_keys.push_back(Pickle::printable(name));
      if (file.is_dict(value)) nested_dicts_.push_back(Pickle::printable(name));
    }
  }

  /// The tensors to copy: one assignment for each name that both the module and the file have.
  std::vector<Assignment>& assignments() noexcept { return assignments_; }

  /// The names that only the module or only the file has.
  IncompatibleKeys& keys() noexcept { return keys_; }

  /// All differences between the file and the module, as the end of an error message. Empty when the file fits the
  /// module.
  std::string mismatch_message(bool strict) const {
    std::string text;
    if (strict) add_list(text, "missing in the file", keys_.missing_keys);
    if (strict) add_list(text, "unknown to the module", keys_.unexpected_keys);
    add_list(text, "that do not fit", mismatches_);
    return text.empty() ? text : text + hint();
  }

 private:
  void compare(const StateDictPickle& file, const std::string& name, const at::Tensor& target) {
    const auto found = file.entries().find(name);
    if (found == file.entries().end()) {
      if (!may_be_missing(file, name)) keys_.missing_keys.push_back(name);
    } else if (!file.is_tensor(found->second)) {
      mismatches_.push_back(name + " (not a tensor in the file)");
    } else {
      TensorView view = file.tensor(found->second);
      // As in Python: very old files have vectors of one element for scalars.
      if (target.dim() == 0 && view.sizes == std::vector<std::int64_t>{1}) {
        view.sizes.clear();
        view.strides.clear();
      }
      if (target.sizes() != view.sizes) {
        mismatches_.push_back(name + " (" + shape_text(view.sizes) + " in the file, " + shape_text(target.sizes()) +
                              " in the module)");
      }
      assignments_.push_back({target, std::move(view)});
    }
  }

  /// Whether an old file may lack this entry even with `strict`, as in Python: before their version 2, batch norms had
  /// no counter of batches.
  static bool may_be_missing(const StateDictPickle& file, std::string_view name) {
    constexpr std::string_view kCounter = "num_batches_tracked";
    const auto dot = name.rfind('.');
    const auto module = dot == std::string_view::npos ? std::string_view() : name.substr(0, dot);
    const auto last = dot == std::string_view::npos ? name : name.substr(dot + 1);
    return last == kCounter && file.version_of(module) < 2;
  }

  static std::string shape_text(c10::IntArrayRef sizes) {
    std::string text = "[";
    for (const std::int64_t size : sizes) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
    return text + "]";
  }

  static void add_list(std::string& text, const char* what, const std::vector<std::string>& names) {
    if (names.empty()) return;
    text += text.empty() ? "" : "; ";
    text += std::to_string(names.size()) + (names.size() == 1 ? " key " : " keys ") + what + ": ";
    for (const auto& name : names) text += (&name == names.data() ? "" : ", ") + name;
  }

  /// A guess of the file's content, for an error message when no name fits.
  std::string hint() const {
    if (!assignments_.empty()) return "";
    if (!nested_dicts_.empty()) {
      return "; the file is a dict around other dicts: save the one that is the state_dict, perhaps \"" +
             nested_dicts_.front() + "\", by itself";
    }
    const auto& names = keys_.unexpected_keys;
    const bool wrapped = !names.empty() && std::all_of(names.begin(), names.end(), [](const std::string& name) {
      return name.rfind("module.", 0) == 0;
    });
    return wrapped ? "; the file is of a DataParallel model: save model.module.state_dict()" : "";
  }

  std::vector<Assignment> assignments_;
  IncompatibleKeys keys_;
  std::vector<std::string> mismatches_;
  std::vector<std::string> nested_dicts_;
};

}  // namespace aztorch::detail
