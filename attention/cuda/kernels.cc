#include "attention/cuda/kernels.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <nvrtc.h>

#include <map>
#include <mutex>

#include "attention/cuda/embedded_kernels.h"

namespace lectern::attention::cuda {

// The closed list, at most 40.
extern const CompiledKernel kDecodeD128[3], kDecodeD64[2], kDecodeWide[4], kDecodePtx80[4], kSelectD128[16], kSelectD64[9], kAppend[2];

namespace {

struct List {
  const CompiledKernel* kernels;
  int count;
};
constexpr List kLists[] = {{kDecodeD128, 3}, {kDecodeD64, 2}, {kDecodeWide, 4}, {kDecodePtx80, 4}, {kSelectD128, 16}, {kSelectD64, 9}, {kAppend, 2}};

// What was compiled at run time is the process's, as the closed list is: a kernel or the reason why not, by id.
struct Built {
  const void* kernel = nullptr;
  std::string why;
};
std::mutex built_mutex;  // guards BuiltKernels; not Abseil's: this library needs CUDA's runtime and nothing else
std::map<KernelId, Built>& BuiltKernels() {
  static std::map<KernelId, Built> built;
  return built;
}

// NVRTC is a large library that most processes never need: it is loaded by name, of the version this was built with.
struct Nvrtc {
  decltype(&nvrtcCreateProgram) create = nullptr;
  decltype(&nvrtcDestroyProgram) destroy = nullptr;
  decltype(&nvrtcAddNameExpression) add_name = nullptr;
  decltype(&nvrtcCompileProgram) compile = nullptr;
  decltype(&nvrtcGetLoweredName) lowered_name = nullptr;
  decltype(&nvrtcGetProgramLogSize) log_size = nullptr;
  decltype(&nvrtcGetProgramLog) log = nullptr;
  decltype(&nvrtcGetCUBINSize) cubin_size = nullptr;
  decltype(&nvrtcGetCUBIN) cubin = nullptr;
  decltype(&nvrtcGetPTXSize) ptx_size = nullptr;
  decltype(&nvrtcGetPTX) ptx = nullptr;
  std::string why;  // empty: loaded

  Nvrtc() {
    const std::string name = "libnvrtc.so." + std::to_string(CUDART_VERSION / 1000);
    void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      why = "this kernel is compiled at run time, and " + name + " was not found (LD_LIBRARY_PATH)";
      return;
    }
    const auto load = [&](auto& to, const char* symbol) {
      to = reinterpret_cast<std::remove_reference_t<decltype(to)>>(dlsym(library, symbol));
      if (to == nullptr) why = name + " has no " + symbol;
    };
    load(create, "nvrtcCreateProgram");
    load(destroy, "nvrtcDestroyProgram");
    load(add_name, "nvrtcAddNameExpression");
    load(compile, "nvrtcCompileProgram");
    load(lowered_name, "nvrtcGetLoweredName");
    load(log_size, "nvrtcGetProgramLogSize");
    load(log, "nvrtcGetProgramLog");
    load(cubin_size, "nvrtcGetCUBINSize");
    load(cubin, "nvrtcGetCUBIN");
    load(ptx_size, "nvrtcGetPTXSize");
    load(ptx, "nvrtcGetPTX");
  }
};
const Nvrtc& TheNvrtc() {
  static const Nvrtc nvrtc;
  return nvrtc;
}

struct Source {
  const char* header;  // the one that has the template
  std::string name;    // the kernel as C++ writes it
};
Source SourceOf(const KernelId& id) {
  const std::string element = id.fp16 ? "lectern::ptx::Fp16, " : "lectern::ptx::Bf16, ";
  const auto kernel = [&](const char* name, std::initializer_list<int> numbers, std::initializer_list<bool> flags = {}) {
    std::string text = std::string("lectern::attention::") + name + "<" + element + std::to_string(id.d);
    for (const int n : numbers) text += ", " + std::to_string(n);
    for (const bool flag : flags) text += flag ? ", true" : ", false";
    return text + ">";
  };
  switch (id.family) {
    case KernelFamily::kDecode:
      return {"attention/cuda/decode.cuh", kernel("DecodeKernel", {id.row_tiles, id.stages, id.warps}, {id.sparse, id.soft_cap, id.cluster})};
    case KernelFamily::kSelect: {
      std::string name = kernel("SelectKernel", {});
      name.back() = ',';
      name += " lectern::attention::ScoreKind(" + std::to_string(static_cast<int>(id.kind)) + "), " + std::to_string(id.ctas) + ", " + std::to_string(id.warps) + ">";
      return {"attention/cuda/select.cuh", name};
    }
    case KernelFamily::kOracle: return {"attention/cuda/oracle.cuh", kernel("OracleKernel", {})};
    case KernelFamily::kAppend: return {"attention/cuda/append.cuh", kernel("AppendKernel", {})};
  }
  return {};
}

const char* Load(const KernelImage& image, const void** kernel) {
  cudaLibrary_t library;
  cudaError_t error = cudaLibraryLoadData(&library, image.image.data(), nullptr, nullptr, 0, nullptr, nullptr, 0);
  cudaKernel_t found = nullptr;
  if (error == cudaSuccess) error = cudaLibraryGetKernel(&found, library, image.name.c_str());
  *kernel = found;
  if (error == cudaSuccess) return nullptr;
  cudaGetLastError();  // said in words instead
  return cudaGetErrorString(error);
}

}  // namespace

const void* FindKernel(const KernelId& id) {
  for (const List& list : kLists) {
    for (int i = 0; i < list.count; ++i) {
      if (list.kernels[i].id == id) return list.kernels[i].kernel;
    }
  }
  const std::lock_guard lock(built_mutex);
  const auto it = BuiltKernels().find(id);
  return it == BuiltKernels().end() ? nullptr : it->second.kernel;
}

const char* BuildKernel(const KernelId& id) {
  if (FindKernel(id) != nullptr) return nullptr;
  KernelImage image;
  Built built;
  if (!Compile(id, &image)) {
    built.why = image.log;
  } else if (const char* why = Load(image, &built.kernel)) {
    built.why = std::string("a kernel compiled at run time could not be loaded: ") + why;
  }
  const std::lock_guard lock(built_mutex);
  Built& entry = BuiltKernels()[id];  // of two threads that compiled the same, the first stays
  if (entry.kernel == nullptr) entry = built;
  return entry.kernel == nullptr ? entry.why.c_str() : nullptr;
}

bool Compile(const KernelId& id, KernelImage* to) {
  const Nvrtc& nvrtc = TheNvrtc();
  *to = {.log = nvrtc.why};
  if (!nvrtc.why.empty()) return false;
  const Source source = SourceOf(id);
  const std::string text = std::string("#include \"") + source.header + "\"\n";
  const char* options[] = {id.ptx80 ? "--gpu-architecture=compute_80" : "--gpu-architecture=sm_90a", "--std=c++20", "-default-device",
                           "--ptxas-options=--warn-on-spills"};
  nvrtcProgram program;
  if (nvrtc.create(&program, text.c_str(), "kernel.cu", kNumEmbedded, kEmbeddedTexts, kEmbeddedNames) != NVRTC_SUCCESS) {
    to->log = "NVRTC could not create a program";
    return false;
  }
  bool good = nvrtc.add_name(program, source.name.c_str()) == NVRTC_SUCCESS && nvrtc.compile(program, id.ptx80 ? 3 : 4, options) == NVRTC_SUCCESS;
  size_t size = 0;
  if (nvrtc.log_size(program, &size) == NVRTC_SUCCESS && size > 1) {
    to->log.resize(size);
    nvrtc.log(program, to->log.data());
    to->log.resize(size - 1);
  }
  const char* name = nullptr;
  good = good && nvrtc.lowered_name(program, source.name.c_str(), &name) == NVRTC_SUCCESS;
  if (good) to->name = name;
  good = good && (id.ptx80 ? nvrtc.ptx_size(program, &size) : nvrtc.cubin_size(program, &size)) == NVRTC_SUCCESS;
  if (good) to->image.resize(size);
  good = good && (id.ptx80 ? nvrtc.ptx(program, to->image.data()) : nvrtc.cubin(program, to->image.data())) == NVRTC_SUCCESS;
  if (!good) to->log = "NVRTC could not compile " + source.name + ": " + to->log;
  nvrtc.destroy(&program);
  return good;
}

}  // namespace lectern::attention::cuda
