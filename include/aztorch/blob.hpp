// Single blobs: readers, writers, and operations that need no open blob.
#pragma once

#include "blob_operations.hpp"
#include "blob_reader.hpp"
#include "blob_writer.hpp"
