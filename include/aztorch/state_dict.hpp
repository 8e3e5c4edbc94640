// save_state_dict and load_state_dict: the files of Python's torch.save(model.state_dict(), f), from and to C++ modules.
#pragma once

#include <string>
#include <vector>

#include "client.hpp"
#include "detail/state_dict_load.hpp"
#include "detail/state_dict_save.hpp"
#include "detail/torch_blob.hpp"

namespace aztorch {

// Loads parameters and buffers by name into a module of the same shape: a reference, shared_ptr or ModuleHolder. With
// `strict`, names missing in the file or unknown to the module are an error; without, they are returned. A tensor of
// another shape is an error in both. One error names all that does not fit, and is thrown before any tensor is read;
// the module changes only when everything has been read. Nothing that the file names is ever run.
template <typename Module>
IncompatibleKeys load_state_dict(Module&& module, const std::string& url, bool strict = true,
                                 const Client& client = {}) {
  return detail::load_state_dict(detail::module_in(module), url, strict, client);
}

// Saves parameters and buffers under the names that Python's module of the same shape gives them.
template <typename Module>
void save_state_dict(const Module& module, const std::string& url, const Client& client = {}) {
  detail::save_state_dict(detail::module_in(module), url, client);
}

}  // namespace aztorch
