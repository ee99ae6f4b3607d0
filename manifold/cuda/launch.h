// manifold/cuda/launch.h: where plain C++ meets the kernels: numbers and pointers in, an error code of the runtime out.
//
//   const char* why = WhyNoDevice();                                  // null: there is one
//   why = WhyNoPlanes(/*k=*/64, /*d=*/16);                            // null: there is a kernel
//   int error = LaunchPlanes(plane_params, stream);                   // 0: launched
//   SearchPlan plan;
//   why = PlanSearch(/*dim=*/384, /*keep=*/64, &plan);
//   error = LaunchSearch(plan, search_params, stream);
//
// Shapes:  as the parameter structs say.
// Threads: any; everything concerns the calling thread's current device.
// Errors:  WhyNo and PlanSearch return why not, or null; the others a cudaError_t.
// Cost:    a launch neither allocates nor waits.
#pragma once

#include <cstddef>

#include "manifold/cuda/neighbours_params.h"
#include "manifold/cuda/plane_params.h"

namespace lectern::manifold::cuda {

const char* WhyNoDevice();
const char* ErrorName(int error);

// Rows and columns of the start block of the kernel that serves k and d.
int PlaneRows(int k);
int PlaneBlock(int d);
const char* WhyNoPlanes(int k, int d);
int LaunchPlanes(const PlaneParams& params, void* stream);
int LaunchGate(const GateParams& params, void* stream);

struct SearchPlan {
  int tile_rows = 0, stages = 0, shared_bytes = 0, ctas = 0;
  size_t list_bytes = 0;         // of SearchParams::lists
  long long rows_a_launch = 0;   // whole waves, so that a launch's candidates stay within 300 MB
};

const char* PlanSearch(int dim, int keep, SearchPlan* plan);
int LaunchPack(const float* rows, const Table& table, void* stream);
int LaunchSearch(const SearchPlan& plan, const SearchParams& params, void* stream);
int LaunchRank(const RankParams& params, void* stream);

int Allocate(size_t bytes, void** at);
void Release(void* at);
int Upload(void* to, const void* from, size_t bytes);
int Download(void* to, const void* from, size_t bytes);
int Clear(void* at, size_t bytes);
int Finish();  // of all that was launched: its error, too

}  // namespace lectern::manifold::cuda
