// service/denoise.h: denoising at index time: replicas of a sample of chunks, the decision, and what is said about it.
//
//   ASSIGN_OR_RETURN(options.denoise, MakeDenoiseHook("auto", encoder, pool, hooks));
//   for (const std::string& line : DenoiseLines(state)) terminal.Line(line);
//
// Shapes:  see index/indexer.h's DenoiseHook and manifold/decide.h.
// Threads: one build's, over the pool.
// Errors:  kInvalidArgument (mode; `on` without an encoder), those of encoding. `auto` without an encoder
//          moves nothing, and its report says so.
// Cost:    two encodings of up to 2,000 chunks and one of a sentence of each, an exact neighbour search of the segment in itself (quadratic), one fit, the
//          check; its vectors three times in memory.
//
// Replicas are two independent perturbations of a chunk's text: a fifth of its sentences left out, and a tenth of its words
// cut off at the ends. A sentence of each chunk asks for it. Raw vectors are never replaced; PQ is not part of this build, so nothing is fitted after it.
#pragma once

#include <string>
#include <vector>

#include "index/indexer.h"
#include "service/indexing.h"

namespace lectern::service {

// What the last whole build was asked for: "off", "auto" or "on".
std::string DenoiseModeOf(const index::CollectionState& state);
absl::StatusOr<index::DenoiseHook> MakeDenoiseHook(const std::string& mode, index::Encoder* encoder, ThreadPool& pool,
                                                   const IndexHooks& hooks);
std::string DenoiseLine(const Json& report);
// Of the segments that are still there; last, how many chunks were added since.
std::vector<std::string> DenoiseLines(const index::CollectionState& state);

}  // namespace lectern::service
