# Defines the imported targets of aztorch. Both the installed package (aztorch-config.cmake) and a build from source (the
# CMakeLists.txt at the top of the repository) include this file, so that both have the same targets:
#
#   aztorch::aztorch  the shared library, with the C header and the C++17 headers that need no LibTorch
#   aztorch::static   the same as a static library
#   aztorch::torch    the shared library and LibTorch, for <aztorch/torch.hpp>
#
# It reads _aztorch_include, _aztorch_library_dir, _aztorch_version, _aztorch_soname, _aztorch_scope, which is GLOBAL or
# empty, and _aztorch_wants_torch. If LibTorch is wanted and not found, there is no aztorch::torch, and
# aztorch_torch_NOT_FOUND_MESSAGE says why.
if(NOT TARGET aztorch::aztorch)
  add_library(aztorch::aztorch SHARED IMPORTED ${_aztorch_scope})
  set_target_properties(aztorch::aztorch PROPERTIES
    IMPORTED_LOCATION "${_aztorch_library_dir}/libaztorch.so.${_aztorch_version}"
    IMPORTED_SONAME "${_aztorch_soname}"
    INTERFACE_INCLUDE_DIRECTORIES "${_aztorch_include}")

  # Names of libraries and not Threads::Threads, which would have to be found, and in this scope.
  add_library(aztorch::static STATIC IMPORTED ${_aztorch_scope})
  set_target_properties(aztorch::static PROPERTIES
    IMPORTED_LOCATION "${_aztorch_library_dir}/libaztorch.a"
    IMPORTED_LINK_INTERFACE_LANGUAGES C
    INTERFACE_LINK_LIBRARIES "gcc_s;m;pthread;dl"
    INTERFACE_INCLUDE_DIRECTORIES "${_aztorch_include}")
endif()

if(_aztorch_wants_torch AND NOT TARGET aztorch::torch)
  include("${CMAKE_CURRENT_LIST_DIR}/aztorch-torch.cmake")
  if(TARGET aztorch_torch_dependency)
    add_library(aztorch::torch INTERFACE IMPORTED ${_aztorch_scope})
    set_target_properties(aztorch::torch PROPERTIES
      INTERFACE_LINK_LIBRARIES "aztorch::aztorch;aztorch_torch_dependency")
  endif()
endif()
