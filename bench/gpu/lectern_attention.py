"""ctypes over liblectern_attention_c.so: torch tensors in, launches on the current stream out.

    lib = Library("liblectern_attention_c.so")
    plan = lib.plan(q_heads=32, kv_heads=8, head_dim=128, max_batch=1, max_keys=131072)
    plan.decode(q, k_pages, v_pages, table, lengths, out)                    # q, out [batch, q_head, d] of the plan's dtype
    plan.decode(q, k_pages, v_pages, table, lengths, out, blocks=(ids, counts, 64))
"""
import ctypes as C
import torch


class Problem(C.Structure):
    _fields_ = [("q_heads", C.c_int), ("kv_heads", C.c_int), ("head_dim", C.c_int), ("max_batch", C.c_int), ("max_keys", C.c_longlong),
                ("fixed_chunk_keys", C.c_longlong), ("scale", C.c_float), ("soft_cap", C.c_float), ("programmatic_launch", C.c_int),
                ("form", C.c_int), ("min_units", C.c_int), ("max_parts", C.c_int), ("kv_type", C.c_int)]


class Step(C.Structure):
    _fields_ = [("q", C.c_void_p), ("out", C.c_void_p), ("lse", C.c_void_p), ("k", C.c_void_p), ("v", C.c_void_p),
                ("k_page_stride", C.c_longlong), ("k_head_stride", C.c_longlong), ("v_page_stride", C.c_longlong),
                ("v_head_stride", C.c_longlong), ("page_table", C.c_void_p), ("page_table_stride", C.c_longlong),
                ("lengths", C.c_void_p), ("batch", C.c_int), ("workspace", C.c_void_p), ("num_pages", C.c_longlong)]


class Blocks(C.Structure):
    _fields_ = [("ids", C.c_void_p), ("counts", C.c_void_p), ("capacity", C.c_int), ("block_tokens", C.c_int)]


class Selector(C.Structure):
    _fields_ = [("kind", C.c_int), ("mode", C.c_int), ("block_tokens", C.c_int), ("budget_blocks", C.c_int), ("ratio_per_mille", C.c_int),
                ("min_blocks", C.c_int), ("first_blocks", C.c_int), ("last_blocks", C.c_int), ("dense_below", C.c_int), ("count_forced", C.c_int),
                ("zero_placeholder", C.c_int), ("threshold", C.c_float), ("q", C.c_void_p), ("descriptors", C.c_void_p),
                ("page_stride", C.c_longlong), ("head_stride", C.c_longlong), ("block_stride", C.c_longlong), ("gate_weights", C.c_void_p),
                ("gate_norm", C.c_void_p), ("frequencies", C.c_void_p), ("norm_eps", C.c_float), ("rope_scale", C.c_float),
                ("num_pages", C.c_longlong)]


class Append(C.Structure):
    _fields_ = [("qkv", C.c_void_p), ("bias", C.c_void_p), ("q", C.c_void_p), ("gate_q", C.c_void_p), ("q_norm", C.c_void_p), ("k_norm", C.c_void_p),
                ("frequencies", C.c_void_p), ("norm_eps", C.c_float), ("rope_scale", C.c_float), ("min_max", C.c_void_p),
                ("min_max_page_stride", C.c_longlong), ("min_max_head_stride", C.c_longlong), ("min_max_block_stride", C.c_longlong),
                ("min_max_block_tokens", C.c_int), ("gate_block_tokens", C.c_int), ("gate_keys", C.c_void_p),
                ("gate_page_stride", C.c_longlong), ("gate_head_stride", C.c_longlong), ("gate_block_stride", C.c_longlong),
                ("gate_weights", C.c_void_p), ("gate_norm", C.c_void_p), ("gate_frequencies", C.c_void_p), ("gate_norm_eps", C.c_float),
                ("gate_rope_scale", C.c_float), ("gate_pos_compat", C.c_int), ("pool", C.c_void_p), ("committed_pool", C.c_void_p),
                ("commit", C.c_void_p), ("copy_from", C.c_void_p)]


KINDS = {"gate": 0, "gate_project": 1, "resa": 2, "quest": 3, "quest_heads": 4, "oracle": 5}
KV_TYPES = {torch.bfloat16: 0, torch.float16: 1}
MODES = {"tokens": 0, "ratio": 1, "threshold": 2}


def stream():
    return C.c_void_p(torch.cuda.current_stream().cuda_stream)


class Library:
    def __init__(self, path):
        self.c = C.CDLL(path)
        self.c.lectern_plan.restype = C.c_void_p
        self.c.lectern_plan.argtypes = [C.POINTER(Problem), C.c_char_p, C.c_int]
        self.c.lectern_workspace_bytes.restype = C.c_longlong
        self.c.lectern_workspace_bytes.argtypes = [C.c_void_p]
        self.c.lectern_error.restype = C.c_char_p
        self.c.lectern_explain.argtypes = [C.c_void_p, C.c_char_p, C.c_int]
        self.c.lectern_clear_workspace.argtypes = [C.c_void_p, C.c_void_p, C.c_void_p]
        self.c.lectern_decode.argtypes = [C.c_void_p, C.POINTER(Step), C.POINTER(Blocks), C.c_void_p]
        self.c.lectern_append.argtypes = [C.c_void_p, C.POINTER(Step), C.POINTER(Append), C.c_void_p]
        self.c.lectern_prepare_select.argtypes = [C.c_void_p, C.c_int, C.c_int]
        self.c.lectern_select.argtypes = [C.c_void_p, C.POINTER(Step), C.POINTER(Selector), C.POINTER(Blocks), C.c_void_p]

    def check(self, error):
        if error != 0:
            raise RuntimeError(self.c.lectern_error(error).decode())

    def plan(self, **k):
        return Plan(self, **k)


class Plan:
    def __init__(self, lib, q_heads, kv_heads, head_dim, max_batch, max_keys, programmatic=True, dtype=torch.bfloat16, **k):
        why = C.create_string_buffer(256)
        p = Problem(q_heads=q_heads, kv_heads=kv_heads, head_dim=head_dim, max_batch=max_batch, max_keys=max_keys,
                    programmatic_launch=int(programmatic), kv_type=KV_TYPES[dtype], **k)
        self.lib, self.handle = lib, lib.c.lectern_plan(C.byref(p), why, 256)
        if not self.handle:
            raise RuntimeError(why.value.decode())
        self.head_dim = head_dim
        self.workspace = torch.empty(lib.c.lectern_workspace_bytes(self.handle), dtype=torch.uint8, device="cuda")
        lib.check(lib.c.lectern_clear_workspace(self.handle, self.workspace.data_ptr(), stream()))
        torch.cuda.synchronize()

    def explain(self):
        b = C.create_string_buffer(512)
        self.lib.c.lectern_explain(self.handle, b, 512)
        return b.value.decode()

    def _step(self, table, lengths, q=None, k=None, v=None, out=None, lse=None):
        at = lambda t: t.data_ptr() if t is not None else None
        s = Step(q=at(q), out=at(out), lse=at(lse), k=at(k), v=at(v), page_table=table.data_ptr(), page_table_stride=table.stride(0),
                 lengths=lengths.data_ptr(), batch=lengths.numel(), workspace=self.workspace.data_ptr())
        if k is not None:  # [page, kv_head, 64, d]
            s.k_page_stride, s.k_head_stride, s.v_page_stride, s.v_head_stride = k.stride(0), k.stride(1), v.stride(0), v.stride(1)
            s.num_pages = min(k.shape[0], v.shape[0])
        return s

    def decode(self, q, k, v, table, lengths, out, lse=None, blocks=None):
        s = self._step(table, lengths, q, k, v, out, lse)
        b = None
        if blocks is not None:
            ids, counts, size = blocks
            b = C.byref(Blocks(ids=ids.data_ptr(), counts=counts.data_ptr(), capacity=ids.shape[-1], block_tokens=size))
        self.lib.check(self.lib.c.lectern_decode(self.handle, C.byref(s), b, stream()))
        return out

    def prepare_select(self, kind, block_tokens):
        """Before the first select() of fp16, or of the oracle: compiles its kernels."""
        self.lib.check(self.lib.c.lectern_prepare_select(self.handle, KINDS[kind], block_tokens))

    def select(self, kind, q, descriptors, table, lengths, ids, counts, block_tokens, mode="tokens", budget_blocks=0, ratio_per_mille=100,
               min_blocks=0, first_blocks=1, last_blocks=1, dense_below=0, count_forced=1, zero_placeholder=0, threshold=0.0,
               gate_weights=None, gate_norm=None, frequencies=None, norm_eps=1e-6, rope_scale=1.0):
        """descriptors [page, kv_head, block in page, d or 2 d], any strides; the oracle's are the keys [page, kv_head, 64, d]."""
        at = lambda t: t.data_ptr() if t is not None else None
        sel = Selector(kind=KINDS[kind], mode=MODES[mode], block_tokens=block_tokens, budget_blocks=budget_blocks, ratio_per_mille=ratio_per_mille,
                       min_blocks=min_blocks, first_blocks=first_blocks, last_blocks=last_blocks, dense_below=dense_below, count_forced=count_forced,
                       zero_placeholder=zero_placeholder, threshold=threshold, q=q.data_ptr(), descriptors=descriptors.data_ptr(),
                       page_stride=descriptors.stride(0), head_stride=descriptors.stride(1), block_stride=descriptors.stride(2),
                       gate_weights=at(gate_weights), gate_norm=at(gate_norm), frequencies=at(frequencies), norm_eps=norm_eps, rope_scale=rope_scale,
                       num_pages=descriptors.shape[0])
        b = Blocks(ids=ids.data_ptr(), counts=counts.data_ptr(), capacity=ids.shape[-1], block_tokens=block_tokens)
        keys = descriptors if kind == "oracle" else None
        self.lib.check(self.lib.c.lectern_select(self.handle, C.byref(self._step(table, lengths, k=keys, v=keys)), C.byref(sel), C.byref(b), stream()))

    def append(self, qkv, q, k, v, table, lengths, gate_q=None, bias=None, q_norm=None, k_norm=None, frequencies=None, norm_eps=1e-6, rope_scale=1.0,
               min_max=None, min_max_block=0, gate_keys=None, gate_block=0, gate_weights=None, gate_norm=None, gate_frequencies=None, pool=None,
               copy_from=None):
        """One token a sequence: qkv [batch, (q_heads + 2 kv_heads) * d] to q [batch, q_head, d] and into k, v [page, kv_head, 64, d]."""
        at = lambda t: t.data_ptr() if t is not None else None
        strides = lambda t: t.stride()[:3] if t is not None else (0, 0, 0)
        pair, key = strides(min_max), strides(gate_keys)
        a = Append(qkv=at(qkv), bias=at(bias), q=at(q), gate_q=at(gate_q), q_norm=at(q_norm), k_norm=at(k_norm), frequencies=at(frequencies),
                   norm_eps=norm_eps, rope_scale=rope_scale, min_max=at(min_max), min_max_page_stride=pair[0], min_max_head_stride=pair[1],
                   min_max_block_stride=pair[2], min_max_block_tokens=min_max_block, gate_block_tokens=gate_block, gate_keys=at(gate_keys),
                   gate_page_stride=key[0], gate_head_stride=key[1], gate_block_stride=key[2], gate_weights=at(gate_weights), gate_norm=at(gate_norm),
                   gate_frequencies=at(gate_frequencies), gate_norm_eps=norm_eps, gate_rope_scale=rope_scale, pool=at(pool), copy_from=at(copy_from))
        self.lib.check(self.lib.c.lectern_append(self.handle, C.byref(self._step(table, lengths, q, k, v)), C.byref(a), stream()))
