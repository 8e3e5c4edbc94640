// IncompatibleKeys: the result of load_state_dict().
#pragma once

#include <string>
#include <vector>

namespace aztorch {

/// The names that only the module has, and those that only the file has. Both are empty after a load with `strict`.
/// Like the result of Python's load_state_dict().
struct IncompatibleKeys {
  std::vector<std::string> missing_keys;     ///< Names in the module that the file does not have.
  std::vector<std::string> unexpected_keys;  ///< Names in the file that the module does not have.
};

}  // namespace aztorch
