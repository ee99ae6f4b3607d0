#include "attention/cuda/c_api.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <string>

#include "attention/cuda/launch.h"

using namespace lectern::attention;
using namespace lectern::attention::cuda;

struct LecternPlan {
  LecternProblem given;
  DecodeProblem problem;
  DecodeChoice choice;
};

namespace {

thread_local const char* last_refusal = "nothing was refused";

int Refuse(const char* why) {
  last_refusal = why;
  return LECTERN_REFUSED;
}

void Copy(const std::string& text, char* to, int size) {
  if (to == nullptr || size < 1) return;
  std::strncpy(to, text.c_str(), static_cast<size_t>(size) - 1);
  to[size - 1] = 0;
}

bool Misaligned(const void* p) { return p == nullptr || reinterpret_cast<uintptr_t>(p) % 16 != 0; }

const char* WhyNoPlan(const LecternProblem& p, LecternPlan* plan) {
  if (p.kv_heads < 1 || p.q_heads < 1 || p.q_heads % p.kv_heads != 0 || p.max_batch < 1) {
    return "query heads must be a multiple of KV heads, both and max_batch at least 1";
  }
  if (!(p.soft_cap >= 0) || !(p.scale >= 0)) return "scale and soft_cap must not be negative";
  if (p.form < 0 || p.form > 1) return "form must be 0 or 1";
  if (p.kv_type < 0 || p.kv_type > 1) return "kv_type must be 0 (bf16) or 1 (fp16)";
  if (p.min_units < 0 || p.min_units > 1 << 20 || p.max_parts < 0) return "min_units must be in 0..1048576, max_parts not negative";
  CudaDevice device;
  if (const char* why = AskDevice(&device)) return why;
  plan->problem = {.device = device, .d = p.head_dim, .group = p.q_heads / p.kv_heads, .kv_heads = p.kv_heads, .rows = 1LL * p.max_batch * p.kv_heads,
                   .max_keys = p.max_keys, .fp16 = p.kv_type == 1, .soft_cap = p.soft_cap > 0, .form = p.form, .chunk_keys = p.fixed_chunk_keys};
  if (const char* why = ChooseDecode(plan->problem, &plan->choice)) return why;
  if (const char* why = Prepare(plan->choice, plan->problem, &plan->problem.device)) return why;
  if (p.min_units > 0) plan->choice.min_units = p.min_units;
  if (p.max_parts > 0) plan->choice.max_parts = p.max_parts;
  return nullptr;
}

const char* WhyNoCall(const LecternPlan& plan, const LecternStep& s, long long capacity) {
  if (s.batch < 0 || s.batch > plan.given.max_batch) return "batch must be in 0..max_batch, as planned";
  if (s.lengths == nullptr || s.page_table == nullptr) return "a step needs lengths and a page table";
  return WhyNoStep(plan.problem, s.batch, s.page_table_stride, capacity);
}

const char* WhyNoCache(const LecternStep& s) {
  if (Misaligned(s.k) || Misaligned(s.v)) return "K and V must have memory that begins at a multiple of 16 bytes";
  for (const long long stride : {s.k_page_stride, s.k_head_stride, s.v_page_stride, s.v_head_stride}) {
    if (stride % 8 != 0) return "the strides of K and V must be multiples of 8 elements";
  }
  return WhyNoPages(s.num_pages);
}

const char* WhyNoLists(const LecternBlocks& b) {
  return b.ids == nullptr || b.counts == nullptr || b.capacity < 1 ? "lists need ids, counts and a capacity of at least 1" : nullptr;
}

const char* WhyNoDescriptors(const void* base, long long page_stride, long long head_stride, long long block_stride) {
  if (Misaligned(base)) return "descriptors must have memory that begins at a multiple of 16 bytes";
  return WhyNoDescriptorStrides(page_stride, head_stride, block_stride);
}

const char* WhyNoSelector(const LecternPlan& plan, const LecternSelector& s) {
  if (s.kind < 0 || s.kind > 5) return "a selector's kind must be in 0..5";
  if (s.mode < 0 || s.mode > 2) return "a selector's mode must be in 0..2";
  if (const char* why = WhyNoSelect(plan.problem, static_cast<ScoreKind>(s.kind), s.block_tokens)) return why;
  for (const int n : {s.budget_blocks, s.min_blocks, s.first_blocks, s.last_blocks, s.dense_below}) {
    if (n < 0) return "budget_blocks, min_blocks, first_blocks, last_blocks and dense_below must not be negative";
  }
  if (s.ratio_per_mille < 0 || s.ratio_per_mille > 1000) return "ratio_per_mille must be in 0..1000";
  if (Misaligned(s.q)) return "q must have memory that begins at a multiple of 16 bytes";
  if (static_cast<ScoreKind>(s.kind) == ScoreKind::kGateProject && Misaligned(s.gate_weights)) {
    return "the gate's projection needs weights at a multiple of 16 bytes";
  }
  if (const char* why = WhyNoPages(s.num_pages)) return why;
  if (static_cast<ScoreKind>(s.kind) == ScoreKind::kOracle) return nullptr;
  return WhyNoDescriptors(s.descriptors, s.page_stride, s.head_stride, s.block_stride);
}

const char* WhyNoAppend(const LecternAppend& a) {
  if (a.qkv == nullptr || a.q == nullptr) return "append needs qkv and q";
  if (a.min_max_block_tokens != 0) {
    if (const char* why = WhyNoBlocks(a.min_max_block_tokens)) return why;
    if (const char* why = WhyNoDescriptors(a.min_max, a.min_max_page_stride, a.min_max_head_stride, a.min_max_block_stride)) return why;
  }
  if (a.gate_block_tokens != 0) {
    if (const char* why = WhyNoBlocks(a.gate_block_tokens)) return why;
    if (a.pool == nullptr || Misaligned(a.gate_weights)) return "gate keys need a pool and weights at a multiple of 16 bytes";
    if (const char* why = WhyNoDescriptors(a.gate_keys, a.gate_page_stride, a.gate_head_stride, a.gate_block_stride)) return why;
  }
  if (a.copy_from != nullptr && (a.min_max_block_tokens > 64 || a.gate_block_tokens > 64)) {
    return "copy_from serves blocks of up to a page of 64 tokens: the descriptor of a longer one lies with a shared page";
  }
  return nullptr;
}

}  // namespace

LecternPlan* lectern_plan(const LecternProblem* p, char* why, int why_size) {
  auto* plan = new (std::nothrow) LecternPlan{.given = *p, .problem = {}, .choice = {}};
  if (plan == nullptr) return nullptr;
  if (const char* reason = WhyNoPlan(*p, plan)) {
    Copy(reason, why, why_size);
    delete plan;
    return nullptr;
  }
  return plan;
}

void lectern_plan_free(LecternPlan* plan) { delete plan; }
long long lectern_workspace_bytes(const LecternPlan* plan) { return plan->choice.workspace_bytes; }

int lectern_explain(const LecternPlan* plan, char* text, int size) {
  const KernelId& e = plan->choice.dense;
  const std::string s = "decode_hd" + std::to_string(e.d) + (e.fp16 ? "_f16 grid " : "_bf16 grid ") + std::to_string(plan->choice.grid) + " warps " +
                        std::to_string(e.warps) + " stages " + std::to_string(e.stages) + " shared " +
                        std::to_string(plan->choice.shared) + " min_units " +
                        std::to_string(plan->choice.min_units) + " max_parts " + std::to_string(plan->choice.max_parts) + " chunk_units " + std::to_string(plan->choice.chunk_units) +
                        " bytes_per_key " + std::to_string(4LL * plan->given.kv_heads * plan->given.head_dim);
  Copy(s, text, size);
  return 0;
}

int lectern_clear_workspace(const LecternPlan* plan, void* workspace, void* stream) {
  return ClearBytes(workspace, plan->choice.workspace_bytes, stream);
}

int lectern_decode(const LecternPlan* plan, const LecternStep* s, const LecternBlocks* blocks, void* stream) {
  if (const char* why = WhyNoCall(*plan, *s, blocks == nullptr ? 0 : blocks->capacity)) return Refuse(why);
  if (const char* why = WhyNoCache(*s)) return Refuse(why);
  if (Misaligned(s->q) || Misaligned(s->out) || Misaligned(s->workspace)) {
    return Refuse("q, out and workspace must have memory that begins at a multiple of 16 bytes");
  }
  if (blocks != nullptr) {
    if (const char* why = WhyNoLists(*blocks)) return Refuse(why);
    if (blocks->block_tokens < kUnitKeys || blocks->block_tokens % kUnitKeys != 0 || blocks->block_tokens >= 1 << 24) {
      return Refuse("block_tokens must be a multiple of 16 below 16777216");
    }
  }
  if (s->batch == 0) return 0;
  const float scale = plan->given.scale != 0 ? plan->given.scale : 1 / std::sqrt(static_cast<float>(plan->given.head_dim));
  DecodeParams params{};
  params.q = s->q;
  params.out = s->out;
  params.lse = s->lse;
  params.k = static_cast<const char*>(s->k);
  params.v = static_cast<const char*>(s->v);
  params.k_page_bytes = s->k_page_stride * 2;
  params.k_head_bytes = s->k_head_stride * 2;
  params.v_page_bytes = s->v_page_stride * 2;
  params.v_head_bytes = s->v_head_stride * 2;
  params.page_table = s->page_table;
  params.lengths = s->lengths;
  params.page_table_stride = static_cast<int>(s->page_table_stride);
  params.num_pages = PagesToAskFor(s->num_pages);
  params.batch = s->batch;
  params.kv_heads = plan->given.kv_heads;
  params.group = plan->problem.group;
  params.scale_log2 = scale * 1.4426950408889634f;
  if (plan->given.soft_cap > 0) {
    params.cap_in = scale / plan->given.soft_cap;
    params.cap_out = plan->given.soft_cap * 1.4426950408889634f;
  }
  if (blocks != nullptr) {
    params.ids = blocks->ids;
    params.counts = blocks->counts;
    params.capacity = blocks->capacity;
    params.block_units = blocks->block_tokens / kUnitKeys;
  }
  BindWorkspace(plan->choice, s->workspace, &params);
  return LaunchDecode(plan->problem, plan->choice, params, blocks != nullptr, plan->given.programmatic_launch != 0, stream);
}

int lectern_prepare_select(const LecternPlan* plan, int kind, int block_tokens) {
  if (kind < 0 || kind > 5) return Refuse("a selector's kind must be in 0..5");
  const char* why = PrepareSelect(plan->problem, static_cast<ScoreKind>(kind), block_tokens);
  return why == nullptr ? 0 : Refuse(why);
}

int lectern_select(const LecternPlan* plan, const LecternStep* step, const LecternSelector* s, const LecternBlocks* blocks,
                   void* stream) {
  if (const char* why = WhyNoCall(*plan, *step, blocks->capacity)) return Refuse(why);
  if (const char* why = WhyNoLists(*blocks)) return Refuse(why);
  if (const char* why = WhyNoSelector(*plan, *s)) return Refuse(why);
  if (step->batch == 0) return 0;
  const ScoreKind kind = static_cast<ScoreKind>(s->kind);
  if (kind == ScoreKind::kOracle) {
    if (const char* why = WhyNoCache(*step)) return Refuse(why);
  }
  const int max_blocks = static_cast<int>((plan->given.max_keys + s->block_tokens - 1) / s->block_tokens);
  SelectParams params{};
  params.q = s->q;
  params.descriptors = static_cast<const char*>(s->descriptors);
  params.page_bytes = s->page_stride * 2;
  params.head_bytes = s->head_stride * 2;
  params.block_bytes = s->block_stride * 2;
  const float scale = plan->given.scale != 0 ? plan->given.scale : 1 / std::sqrt(static_cast<float>(plan->given.head_dim));
  params.page_table = step->page_table;
  params.lengths = step->lengths;
  params.ids = blocks->ids;
  params.counts = blocks->counts;
  params.gate_weights = s->gate_weights;
  params.gate_norm = s->gate_norm;
  params.frequencies = s->frequencies;
  params.norm_eps = s->norm_eps;
  params.rope_scale = s->rope_scale;
  params.score_scale = kind == ScoreKind::kQuest || kind == ScoreKind::kQuestHeads ? 1.0f : 1 / std::sqrt(static_cast<float>(plan->given.head_dim));
  if (kind == ScoreKind::kOracle) {
    params.descriptors = static_cast<const char*>(step->k);
    params.page_bytes = step->k_page_stride * 2;
    params.head_bytes = step->k_head_stride * 2;
    params.score_scale = scale * 1.4426950408889634f;
    if (plan->given.soft_cap > 0) {
      params.cap_in = scale / plan->given.soft_cap;
      params.cap_out = plan->given.soft_cap * 1.4426950408889634f;
    }
  }
  params.page_table_stride = static_cast<int>(step->page_table_stride);
  params.num_pages = PagesToAskFor(s->num_pages);
  params.batch = step->batch;
  params.kv_heads = plan->given.kv_heads;
  params.group = plan->problem.group;
  params.capacity = blocks->capacity;
  params.block_tokens = s->block_tokens;
  params.mode = s->mode;
  params.budget_blocks = std::min(s->budget_blocks, max_blocks);
  params.ratio_per_mille = s->ratio_per_mille;
  params.min_blocks = std::min(s->min_blocks, max_blocks);
  params.first_blocks = std::min(s->first_blocks, max_blocks);
  params.last_blocks = std::min(s->last_blocks, max_blocks);
  params.dense_below = s->dense_below;
  params.count_forced = s->count_forced;
  params.zero_placeholder = s->zero_placeholder;
  params.threshold = s->threshold;
  params.max_blocks = max_blocks;
  return LaunchSelect(plan->problem, params, kind, plan->given.programmatic_launch != 0, stream);
}

int lectern_append(const LecternPlan* plan, const LecternStep* step, const LecternAppend* a, void* stream) {
  if (const char* why = WhyNoCall(*plan, *step, 0)) return Refuse(why);
  if (const char* why = WhyNoCache(*step)) return Refuse(why);
  if (const char* why = WhyNoAppend(*a)) return Refuse(why);
  if (step->batch == 0) return 0;
  AppendParams params{};
  params.qkv = a->qkv;
  params.bias = a->bias;
  params.q = a->q;
  params.gate_q = a->gate_q;
  params.k = static_cast<char*>(const_cast<void*>(step->k));
  params.v = static_cast<char*>(const_cast<void*>(step->v));
  params.k_page_bytes = step->k_page_stride * 2;
  params.k_head_bytes = step->k_head_stride * 2;
  params.v_page_bytes = step->v_page_stride * 2;
  params.v_head_bytes = step->v_head_stride * 2;
  params.min_max = static_cast<char*>(a->min_max);
  params.min_max_page_bytes = a->min_max_page_stride * 2;
  params.min_max_head_bytes = a->min_max_head_stride * 2;
  params.min_max_block_bytes = a->min_max_block_stride * 2;
  params.min_max_block_tokens = a->min_max_block_tokens;
  params.gate_keys = static_cast<char*>(a->gate_keys);
  params.gate_page_bytes = a->gate_page_stride * 2;
  params.gate_head_bytes = a->gate_head_stride * 2;
  params.gate_block_bytes = a->gate_block_stride * 2;
  params.gate_block_tokens = a->gate_block_tokens;
  params.gate_pos_compat = a->gate_pos_compat;
  params.gate_weights = a->gate_weights;
  params.gate_norm = a->gate_norm;
  params.gate_frequencies = a->gate_frequencies;
  params.gate_norm_eps = a->gate_norm_eps;
  params.gate_rope_scale = a->gate_rope_scale;
  params.pool = a->pool;
  params.committed_pool = a->committed_pool;
  params.commit = a->commit;
  params.copy_from = a->copy_from;
  params.q_norm = a->q_norm;
  params.k_norm = a->k_norm;
  params.frequencies = a->frequencies;
  params.norm_eps = a->norm_eps;
  params.rope_scale = a->rope_scale;
  params.page_table = step->page_table;
  params.lengths = step->lengths;
  params.page_table_stride = static_cast<int>(step->page_table_stride);
  params.batch = step->batch;
  params.kv_heads = plan->given.kv_heads;
  params.group = plan->problem.group;
  return LaunchAppend(plan->problem, params, plan->given.programmatic_launch != 0, stream);
}

const char* lectern_error(int error) { return error == LECTERN_REFUSED ? last_refusal : ErrorName(error); }
