# Finds LibTorch and defines the imported target aztorch_torch_dependency: its headers, its libraries, and the C++
# standard that it needs. If there is none, aztorch_torch_NOT_FOUND_MESSAGE says why.
#
# It is the LibTorch that the project has found before, or the one that find_package(Torch) would find. PyPI's torch is
# built for CUDA, and its find_package(Torch) ends with an error if the machine has no CUDA toolkit. Then the target has
# only the libraries for the CPU.
#
# It reads _aztorch_scope, which is GLOBAL or empty.
cmake_policy(VERSION 3.18...3.26)

unset(aztorch_torch_NOT_FOUND_MESSAGE)
if(TARGET aztorch_torch_dependency)
  return()
endif()

get_property(_aztorch_languages GLOBAL PROPERTY ENABLED_LANGUAGES)
if(NOT "CXX" IN_LIST _aztorch_languages)
  set(aztorch_torch_NOT_FOUND_MESSAGE "LibTorch needs C++: add CXX to the LANGUAGES of project()")
  return()
endif()

# Sets Torch_DIR in the cache, and Torch_VERSION. It looks for the file with the version, since TorchConfig.cmake can
# end the configuration.
function(_aztorch_locate_torch)
  find_package(Torch QUIET CONFIG CONFIGS TorchConfigVersion.cmake)
  set(Torch_VERSION "${PACKAGE_VERSION}" PARENT_SCOPE)
endfunction()

# Sets the variable to the first of the directories that has the file, or to an empty string.
function(_aztorch_directory_of variable file)
  foreach(directory ${ARGN})
    if(EXISTS "${directory}/${file}")
      get_filename_component(directory "${directory}" ABSOLUTE)
      set(${variable} "${directory}" PARENT_SCOPE)
      return()
    endif()
  endforeach()
  set(${variable} "" PARENT_SCOPE)
endfunction()

# Sets the variable to TRUE if LibTorch's own search finds a CUDA toolkit.
function(_aztorch_find_cuda_toolkit variable)
  list(PREPEND CMAKE_MODULE_PATH "${Torch_DIR}/../Caffe2/Modules_CUDA_fix")
  find_package(CUDA QUIET MODULE)
  set(${variable} "${CUDA_FOUND}" PARENT_SCOPE)
endfunction()

# Adds the target with only those libraries of a CUDA build that are for the CPU.
function(_aztorch_add_torch_for_cpu library_directory include_directory)
  # Some of LibTorch's types depend on these definitions.
  file(READ "${Torch_DIR}/../Caffe2/Caffe2Targets.cmake" targets)
  set(definitions)
  if(targets MATCHES "set_target_properties\\(torch_cpu PROPERTIES[ \n]+INTERFACE_COMPILE_DEFINITIONS \"([^\"]*)\"")
    set(definitions ${CMAKE_MATCH_1})
  endif()
  # LibTorch before 2.7 says here for which ABI of libstdc++ it was built. Newer ones have only the ABI 1.
  set(abi 1)
  file(READ "${Torch_DIR}/TorchConfig.cmake" config)
  if(config MATCHES "_GLIBCXX_USE_CXX11_ABI=([01])")
    set(abi ${CMAKE_MATCH_1})
  endif()
  add_library(aztorch_torch_dependency INTERFACE IMPORTED ${_aztorch_scope})
  set_target_properties(aztorch_torch_dependency PROPERTIES
    INTERFACE_COMPILE_DEFINITIONS "${definitions};_GLIBCXX_USE_CXX11_ABI=${abi}"
    INTERFACE_LINK_LIBRARIES "${library_directory}/libtorch_cpu.so;${library_directory}/libc10.so;pthread"
    # libtorch_cpu.so itself needs libraries of CUDA. The dynamic linker finds them through its run path.
    INTERFACE_LINK_OPTIONS "LINKER:--allow-shlib-undefined")
endfunction()

# Adds the headers, and the C++ standard that they demand: "#if __cplusplus < 202002L, #error" stands for C++20.
function(_aztorch_add_torch_headers)
  set(standard 17) # the standard of aztorch's own headers
  _aztorch_directory_of(directory torch/all.h ${ARGN})
  if(directory)
    file(STRINGS "${directory}/torch/all.h" lines REGEX "__cplusplus < 20[0-9][0-9]")
    if(lines MATCHES "__cplusplus < 20([0-9][0-9])" AND CMAKE_MATCH_1 GREATER standard)
      set(standard ${CMAKE_MATCH_1})
    endif()
  endif()
  set_target_properties(aztorch_torch_dependency PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${ARGN}"
    INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${ARGN}"
    INTERFACE_COMPILE_FEATURES "cxx_std_${standard}")
endfunction()

if(NOT TARGET torch)
  _aztorch_locate_torch()
  if(NOT Torch_DIR)
    string(CONCAT aztorch_torch_NOT_FOUND_MESSAGE
      "LibTorch was not found: apt-get install libtorch-dev, or "
      "-DCMAKE_PREFIX_PATH=\"$(python3 -c 'import torch; print(torch.utils.cmake_prefix_path)')\"")
    return()
  endif()
  if(Torch_VERSION VERSION_LESS 1.13)
    string(CONCAT aztorch_torch_NOT_FOUND_MESSAGE
      "LibTorch ${Torch_VERSION} in ${Torch_DIR} is too old, 1.13 is needed: "
      "-DTorch_DIR= of a newer one, which is the directory of its TorchConfig.cmake")
    return()
  endif()

  # Torch_DIR is PREFIX/share/cmake/Torch, or LIBDIR/cmake/Torch in Debian.
  _aztorch_directory_of(_aztorch_cuda libtorch_cuda.so "${Torch_DIR}/../../../lib" "${Torch_DIR}/../..")
  if(_aztorch_cuda)
    _aztorch_find_cuda_toolkit(_aztorch_cuda_toolkit)
  endif()
  if(_aztorch_cuda AND NOT _aztorch_cuda_toolkit)
    _aztorch_directory_of(_aztorch_include torch/csrc/api/include/torch/all.h
      "${Torch_DIR}/../../../include" "${Torch_DIR}/../../../../include")
    if(NOT _aztorch_include OR NOT EXISTS "${_aztorch_cuda}/libtorch_cpu.so")
      set(aztorch_torch_NOT_FOUND_MESSAGE
        "LibTorch in ${_aztorch_cuda} has no torch/all.h or no libtorch_cpu.so: install it again")
      return()
    endif()
    _aztorch_add_torch_for_cpu("${_aztorch_cuda}" "${_aztorch_include}")
    _aztorch_add_torch_headers("${_aztorch_include}" "${_aztorch_include}/torch/csrc/api/include")
    return()
  endif()

  get_property(_aztorch_targets_before DIRECTORY PROPERTY IMPORTED_TARGETS)
  # Not in a function, where LibTorch could not enable the language CUDA.
  find_package(Torch QUIET CONFIG)
  if(NOT TARGET torch)
    string(CONCAT aztorch_torch_NOT_FOUND_MESSAGE
      "LibTorch in ${Torch_DIR} cannot be used: ${Torch_NOT_FOUND_MESSAGE}; find_package(Torch REQUIRED) says more")
    return()
  endif()
  # A global target may depend only on global ones. CMake lists the imported targets since 3.21; with an older one, a
  # project that adds aztorch's sources calls find_package(Torch) before.
  if(_aztorch_scope STREQUAL "GLOBAL" AND CMAKE_VERSION VERSION_GREATER_EQUAL 3.21)
    get_property(_aztorch_targets DIRECTORY PROPERTY IMPORTED_TARGETS)
    list(REMOVE_ITEM _aztorch_targets ${_aztorch_targets_before} "")
    set_target_properties(${_aztorch_targets} PROPERTIES IMPORTED_GLOBAL TRUE)
  endif()
endif()

if(NOT TORCH_LIBRARIES) # found in another scope
  set(TORCH_LIBRARIES torch)
  get_target_property(TORCH_INCLUDE_DIRS torch INTERFACE_INCLUDE_DIRECTORIES)
endif()
separate_arguments(_aztorch_flags NATIVE_COMMAND "${TORCH_CXX_FLAGS}")
add_library(aztorch_torch_dependency INTERFACE IMPORTED ${_aztorch_scope})
set_target_properties(aztorch_torch_dependency PROPERTIES
  INTERFACE_LINK_LIBRARIES "${TORCH_LIBRARIES}"
  INTERFACE_COMPILE_OPTIONS "${_aztorch_flags}")
_aztorch_add_torch_headers(${TORCH_INCLUDE_DIRS})
