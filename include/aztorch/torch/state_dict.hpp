// `save_state_dict` and `load_state_dict`: files of Python's `torch.save(model.state_dict(), f)`, from and to C++.
#pragma once

#include <string>

#include "../client.hpp"
#include "../incompatible_keys.hpp"
#include "detail/module_tensors.hpp"
#include "detail/state_dict_load.hpp"
#include "detail/state_dict_save.hpp"

namespace aztorch {

/// Loads parameters and buffers by name into a module: a reference, a std::shared_ptr or a ModuleHolder. The file was
/// written by torch.save(model.state_dict(), f) in Python, or by save_state_dict(). Nothing in the file is executed.
///
/// With `strict`, names that only the file or only the module has are an error; without, they are returned. A tensor of
/// another shape is always an error. One Error names all differences; it is thrown before any tensor is read. The
/// module changes only after everything has been read. Blocks. Throws Error: AZT_STATUS_INVALID_ARGUMENT when the file
/// does not fit the module, AZT_STATUS_CORRUPT for a damaged file, AZT_STATUS_UNSUPPORTED for another kind of file.
template <typename Module>
IncompatibleKeys load_state_dict(Module&& module, const std::string& url, bool strict = true,
                                 const Client& client = {}) {
  return detail::load_state_dict(detail::unwrap_module(module), url, strict, client);
}

/// Saves a module's parameters and buffers by name, for Python's model.load_state_dict(torch.load(f)). `module` is a
/// reference, a std::shared_ptr or a ModuleHolder. Tied weights stay tied. The blob is replaced as a whole; on failure
/// the previous blob stays. Blocks. Throws Error: AZT_STATUS_UNSUPPORTED for a tensor that is not dense.
template <typename Module>
void save_state_dict(const Module& module, const std::string& url, const Client& client = {}) {
  detail::save_state_dict(detail::unwrap_module(module), url, client);
}

}  // namespace aztorch
