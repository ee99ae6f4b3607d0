#include "attention/cuda/c_api.h"

#include <cmath>
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
  long long ready_blocks[4] = {0, 0, 0, 0};  // a selector's kernel is set up when first called
};

namespace {
void Copy(const std::string& text, char* to, int size) {
  if (to == nullptr || size < 1) return;
  std::strncpy(to, text.c_str(), static_cast<size_t>(size) - 1);
  to[size - 1] = 0;
}
}  // namespace

LecternPlan* lectern_plan(const LecternProblem* p, char* why, int why_size) {
  if (p->kv_heads < 1 || p->q_heads % p->kv_heads != 0 || p->max_batch < 1) {
    Copy("query heads must be a multiple of KV heads, max_batch at least 1", why, why_size);
    return nullptr;
  }
  auto* plan = new (std::nothrow) LecternPlan{.given = *p, .problem = {}, .choice = {}};
  if (plan == nullptr) return nullptr;
  plan->problem = {.d = p->head_dim, .group = p->q_heads / p->kv_heads, .rows = p->max_batch * p->kv_heads,
                   .max_keys = p->max_keys, .soft_cap = p->soft_cap > 0, .form = p->form, .chunk_keys = p->fixed_chunk_keys};
  if (const char* reason = ChooseDecode(plan->problem, &plan->choice)) {
    Copy(reason, why, why_size);
    delete plan;
    return nullptr;
  }
  if (p->min_units > 0) plan->choice.min_units = p->min_units;
  if (p->max_parts > 0) plan->choice.max_parts = p->max_parts;
  return plan;
}

void lectern_plan_free(LecternPlan* plan) { delete plan; }
long long lectern_workspace_bytes(const LecternPlan* plan) { return plan->choice.workspace_bytes; }

int lectern_explain(const LecternPlan* plan, char* text, int size) {
  const DecodeEntry& e = *plan->choice.dense;
  const std::string s = "decode_hd" + std::to_string(e.d) + "_bf16 grid " + std::to_string(plan->choice.grid) + " warps " +
                        std::to_string(e.warps) + " stages " + std::to_string(e.stages) + " shared " +
                        std::to_string(e.fixed_bytes) + " min_units " +
                        std::to_string(plan->choice.min_units) + " max_parts " + std::to_string(plan->choice.max_parts) + " chunk_units " + std::to_string(plan->choice.chunk_units) +
                        " bytes_per_key " + std::to_string(4LL * plan->given.kv_heads * plan->given.head_dim);
  Copy(s, text, size);
  return 0;
}

int lectern_clear_workspace(const LecternPlan* plan, void* workspace, void* stream) {
  return ClearBytes(workspace, plan->choice.workspace_bytes, stream);
}

int lectern_decode(const LecternPlan* plan, const LecternStep* s, const LecternBlocks* blocks, void* stream) {
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
  BindWorkspace(plan->problem, plan->choice, s->workspace, &params);
  return LaunchDecode(plan->choice, plan->problem, params, blocks != nullptr, plan->given.programmatic_launch != 0, stream);
}

int lectern_select(const LecternPlan* plan, const LecternStep* step, const LecternSelector* s, const LecternBlocks* blocks,
                   void* stream) {
  const ScoreKind kind = static_cast<ScoreKind>(s->kind);
  const long long max_blocks = (plan->given.max_keys + s->block_tokens - 1) / s->block_tokens;
  long long& ready = const_cast<LecternPlan*>(plan)->ready_blocks[s->kind];
  if (ready < max_blocks) {
    if (WhyNoSelect(plan->given.head_dim, plan->problem.group, kind, max_blocks) != nullptr) return 1;
    ready = max_blocks;
  }
  SelectParams params{};
  params.q = s->q;
  params.descriptors = static_cast<const char*>(s->descriptors);
  params.page_bytes = s->page_stride * 2;
  params.head_bytes = s->head_stride * 2;
  params.block_bytes = s->block_stride * 2;
  params.page_table = step->page_table;
  params.lengths = step->lengths;
  params.ids = blocks->ids;
  params.counts = blocks->counts;
  params.gate_weights = s->gate_weights;
  params.gate_norm = s->gate_norm;
  params.frequencies = s->frequencies;
  params.norm_eps = s->norm_eps;
  params.rope_scale = s->rope_scale;
  params.score_scale = kind == ScoreKind::kQuest ? 1.0f : 1 / std::sqrt(static_cast<float>(plan->given.head_dim));
  params.page_table_stride = static_cast<int>(step->page_table_stride);
  params.batch = step->batch;
  params.kv_heads = plan->given.kv_heads;
  params.group = plan->problem.group;
  params.capacity = blocks->capacity;
  params.block_tokens = s->block_tokens;
  params.mode = s->mode;
  params.budget_blocks = s->budget_blocks;
  params.ratio_per_mille = s->ratio_per_mille;
  params.min_blocks = s->min_blocks;
  params.first_blocks = s->first_blocks;
  params.last_blocks = s->last_blocks;
  params.dense_below = s->dense_below;
  params.count_forced = s->count_forced;
  params.zero_placeholder = s->zero_placeholder;
  params.threshold = s->threshold;
  params.max_blocks = static_cast<int>(max_blocks);
  return LaunchSelect(params, plan->given.head_dim, kind, plan->given.programmatic_launch != 0, stream);
}

const char* lectern_error(int error) { return ErrorName(error); }
