// What llama.cpp's loaders ask for, by architecture: keys that must be there, and names of tensors that they take. A file with a tensor
// beside these does not load. Source: llama.cpp 0c1e57098, `load_arch_hparams` and `load_arch_tensors` of the file named in each row,
// `create_tensor_qkv` and `create_tensor_gate_up_exps` of src/llama-model.cpp, names from src/llama-arch.cpp.

/// One architecture's loader.
struct LlamaCppLoader: Sendable {
  /// The values of `general.architecture` that it loads.
  let architectures: [String]
  /// Its file in llama.cpp, and the line of `load_arch_hparams`.
  let source: String
  /// The keys that it refuses to do without, without the architecture's name before them.
  let keys: [String]
  /// Where it asks for `output.weight` and takes nothing in its place; nil where the embeddings take its place.
  let head: String?
  /// The tensors that it may take of a block, without `blk.N.`.
  let block: [String]
  /// The others that it may take, beside `token_embd.weight`, `output_norm.weight` and `output.weight`.
  let whole: [String]

  /// All of them.
  static let all: [LlamaCppLoader] = [
    LlamaCppLoader(
      architectures: ["deepseek2", "mistral4"], source: "src/models/deepseek2.cpp:3",
      keys: [
        "attention.layer_norm_rms_epsilon", "attention.kv_lora_rank", "expert_feed_forward_length",
        "expert_shared_count",
      ],
      head: nil,
      block: [
        "attn_k_b.weight", "attn_kv_a_mqa.weight", "attn_kv_a_norm.weight", "attn_kv_b.weight",
        "attn_norm.weight", "attn_output.weight", "attn_q.weight", "attn_q_a.weight",
        "attn_q_a_norm.weight", "attn_q_b.weight", "attn_v_b.weight", "exp_probs_b.bias",
        "ffn_down.weight", "ffn_down_exps.weight", "ffn_down_shexp.weight", "ffn_gate.weight",
        "ffn_gate_exps.weight", "ffn_gate_inp.weight", "ffn_gate_shexp.weight", "ffn_gate_up_exps.weight",
        "ffn_norm.weight", "ffn_up.weight", "ffn_up_exps.weight", "ffn_up_shexp.weight",
        "nextn.eh_proj.weight", "nextn.embed_tokens.weight", "nextn.enorm.weight", "nextn.hnorm.weight",
        "nextn.shared_head_head.weight", "nextn.shared_head_norm.weight",
      ],
      whole: []),
    LlamaCppLoader(
      architectures: ["deepseek32"], source: "src/models/deepseek32.cpp:6",
      keys: [
        "expert_feed_forward_length", "attention.layer_norm_rms_epsilon", "expert_shared_count",
        "attention.q_lora_rank", "attention.kv_lora_rank", "attention.indexer.head_count",
        "attention.indexer.key_length", "attention.indexer.top_k", "expert_gating_func",
      ],
      head: nil,
      block: [
        "attn_k_b.weight", "attn_kv_a_mqa.weight", "attn_kv_a_norm.weight", "attn_norm.weight",
        "attn_output.weight", "attn_q_a.weight", "attn_q_a_norm.weight", "attn_q_b.weight",
        "attn_v_b.weight", "exp_probs_b.bias", "ffn_down.weight", "ffn_down_exps.weight",
        "ffn_down_shexp.weight", "ffn_gate.weight", "ffn_gate_exps.weight", "ffn_gate_inp.weight",
        "ffn_gate_shexp.weight", "ffn_norm.weight", "ffn_up.weight", "ffn_up_exps.weight",
        "ffn_up_shexp.weight", "indexer.attn_k.weight", "indexer.attn_q_b.weight", "indexer.k_norm.bias",
        "indexer.k_norm.weight", "indexer.proj.weight", "nextn.eh_proj.weight",
        "nextn.embed_tokens.weight", "nextn.enorm.weight", "nextn.hnorm.weight",
        "nextn.shared_head_head.weight", "nextn.shared_head_norm.weight",
      ],
      whole: []),
    LlamaCppLoader(
      architectures: ["deepseek4"], source: "src/models/deepseek4.cpp:19",
      keys: [
        "attention.layer_norm_rms_epsilon", "attention.q_lora_rank", "attention.sliding_window",
        "expert_feed_forward_length", "expert_shared_count", "expert_weights_scale", "expert_weights_norm",
        "swiglu_clamp_exp", "attention.indexer.head_count", "attention.indexer.key_length",
        "attention.indexer.top_k", "attention.output_group_count", "attention.output_lora_rank",
        "attention.compress_rope_freq_base", "hyper_connection.count",
        "hyper_connection.sinkhorn_iterations", "hyper_connection.epsilon", "hash_layer_count",
        "attention.compress_ratios", "expert_gating_func",
      ],
      head: "src/models/deepseek4.cpp:103",
      block: [
        "attn_compressor_ape.weight", "attn_compressor_gate.weight", "attn_compressor_kv.weight",
        "attn_compressor_norm.weight", "attn_kv.weight", "attn_kv_a_norm.weight", "attn_norm.weight",
        "attn_output_a.weight", "attn_output_b.weight", "attn_q_a.weight", "attn_q_a_norm.weight",
        "attn_q_b.weight", "attn_sinks.weight", "exp_probs_b.bias", "exp_probs_b_vl.bias",
        "ffn_down_exps.weight", "ffn_down_shexp.weight", "ffn_gate_exps.weight", "ffn_gate_inp.weight",
        "ffn_gate_shexp.weight", "ffn_gate_tid2eid.weight", "ffn_norm.weight", "ffn_up_exps.weight",
        "ffn_up_shexp.weight", "hc_attn_base.weight", "hc_attn_fn.weight", "hc_attn_scale.weight",
        "hc_ffn_base.weight", "hc_ffn_fn.weight", "hc_ffn_scale.weight", "indexer.attn_q_b.weight",
        "indexer.proj.weight", "indexer_compressor_ape.weight", "indexer_compressor_gate.weight",
        "indexer_compressor_kv.weight", "indexer_compressor_norm.weight", "nextn.eh_proj.weight",
        "nextn.embed_tokens.weight", "nextn.enorm.weight", "nextn.hnorm.weight",
        "nextn.shared_head_head.weight", "nextn.shared_head_norm.weight",
      ],
      whole: ["output_hc_base.weight", "output_hc_fn.weight", "output_hc_scale.weight"]),
    LlamaCppLoader(
      architectures: ["llama"], source: "src/models/llama.cpp:3",
      keys: [
        "attention.layer_norm_rms_epsilon"
      ],
      head: nil,
      block: [
        "attn_k.bias", "attn_k.weight", "attn_norm.weight", "attn_output.bias", "attn_output.weight",
        "attn_q.bias", "attn_q.weight", "attn_qkv.bias", "attn_qkv.weight", "attn_v.bias", "attn_v.weight",
        "ffn_down.bias", "ffn_down.weight", "ffn_down_exps.weight", "ffn_down_shexp.weight",
        "ffn_gate.bias", "ffn_gate.weight", "ffn_gate_exps.weight", "ffn_gate_inp.weight",
        "ffn_gate_shexp.weight", "ffn_norm.weight", "ffn_up.bias", "ffn_up.weight", "ffn_up_exps.weight",
        "ffn_up_shexp.weight",
      ],
      whole: ["rope_factors_long.weight", "rope_factors_short.weight", "rope_freqs.weight"]),
    LlamaCppLoader(
      architectures: ["qwen2moe"], source: "src/models/qwen2moe.cpp:3",
      keys: [
        "attention.layer_norm_rms_epsilon"
      ],
      head: "src/models/qwen2moe.cpp:23",
      block: [
        "attn_k.bias", "attn_k.weight", "attn_norm.weight", "attn_output.weight", "attn_q.bias",
        "attn_q.weight", "attn_qkv.bias", "attn_qkv.weight", "attn_v.bias", "attn_v.weight",
        "ffn_down_exps.weight", "ffn_down_shexp.weight", "ffn_gate_exps.weight", "ffn_gate_inp.weight",
        "ffn_gate_inp_shexp.weight", "ffn_gate_shexp.weight", "ffn_norm.weight", "ffn_up_exps.weight",
        "ffn_up_shexp.weight",
      ],
      whole: []),
    LlamaCppLoader(
      architectures: ["qwen3moe"], source: "src/models/qwen3moe.cpp:3",
      keys: [
        "attention.layer_norm_rms_epsilon"
      ],
      head: nil,
      block: [
        "attn_k.bias", "attn_k.weight", "attn_k_norm.weight", "attn_norm.weight", "attn_output.weight",
        "attn_q.bias", "attn_q.weight", "attn_q_norm.weight", "attn_qkv.bias", "attn_qkv.weight",
        "attn_v.bias", "attn_v.weight", "ffn_down_exps.weight", "ffn_gate_exps.weight",
        "ffn_gate_inp.weight", "ffn_norm.weight", "ffn_up_exps.weight",
      ],
      whole: []),
    LlamaCppLoader(
      architectures: ["olmoe"], source: "src/models/olmoe.cpp:3",
      keys: [
        "attention.layer_norm_rms_epsilon"
      ],
      head: "src/models/olmoe.cpp:19",
      block: [
        "attn_k.bias", "attn_k.weight", "attn_k_norm.weight", "attn_norm.weight", "attn_output.weight",
        "attn_q.bias", "attn_q.weight", "attn_q_norm.weight", "attn_qkv.bias", "attn_qkv.weight",
        "attn_v.bias", "attn_v.weight", "ffn_down_exps.weight", "ffn_gate_exps.weight",
        "ffn_gate_inp.weight", "ffn_norm.weight", "ffn_up_exps.weight",
      ],
      whole: []),
    LlamaCppLoader(
      architectures: ["gpt-oss"], source: "src/models/openai-moe.cpp:3",
      keys: [
        "attention.layer_norm_rms_epsilon", "expert_feed_forward_length", "attention.sliding_window",
      ],
      head: "src/models/openai-moe.cpp:31",
      block: [
        "attn_k.bias", "attn_k.weight", "attn_norm.weight", "attn_output.bias", "attn_output.weight",
        "attn_q.bias", "attn_q.weight", "attn_qkv.bias", "attn_qkv.weight", "attn_sinks.weight",
        "attn_v.bias", "attn_v.weight", "ffn_down_exps.bias", "ffn_down_exps.weight", "ffn_gate_exps.bias",
        "ffn_gate_exps.weight", "ffn_gate_inp.bias", "ffn_gate_inp.weight", "ffn_up_exps.bias",
        "ffn_up_exps.weight", "post_attention_norm.weight",
      ],
      whole: []),
    LlamaCppLoader(
      architectures: ["glm4moe"], source: "src/models/glm4-moe.cpp:3",
      keys: [
        "expert_feed_forward_length", "attention.layer_norm_rms_epsilon", "expert_shared_count",
      ],
      head: nil,
      block: [
        "attn_k.bias", "attn_k.weight", "attn_k_norm.weight", "attn_norm.weight", "attn_output.weight",
        "attn_q.bias", "attn_q.weight", "attn_q_norm.weight", "attn_qkv.bias", "attn_qkv.weight",
        "attn_v.bias", "attn_v.weight", "exp_probs_b.bias", "ffn_down.weight", "ffn_down_exps.weight",
        "ffn_down_shexp.weight", "ffn_gate.weight", "ffn_gate_exps.weight", "ffn_gate_inp.weight",
        "ffn_gate_shexp.weight", "ffn_up.weight", "ffn_up_exps.weight", "ffn_up_shexp.weight",
        "nextn.eh_proj.weight", "nextn.embed_tokens.weight", "nextn.enorm.weight", "nextn.hnorm.weight",
        "nextn.shared_head_head.weight", "nextn.shared_head_norm.weight", "post_attention_norm.weight",
      ],
      whole: []),
    LlamaCppLoader(
      architectures: ["minimax-m2"], source: "src/models/minimax-m2.cpp:3",
      keys: [
        "attention.layer_norm_rms_epsilon", "expert_feed_forward_length",
      ],
      head: "src/models/minimax-m2.cpp:21",
      block: [
        "attn_k.bias", "attn_k.weight", "attn_k_norm.weight", "attn_norm.weight", "attn_output.weight",
        "attn_q.bias", "attn_q.weight", "attn_q_norm.weight", "attn_qkv.bias", "attn_qkv.weight",
        "attn_v.bias", "attn_v.weight", "exp_probs_b.bias", "ffn_down_exps.weight", "ffn_gate_exps.weight",
        "ffn_gate_inp.weight", "ffn_norm.weight", "ffn_up_exps.weight",
      ],
      whole: []),
    LlamaCppLoader(
      architectures: ["minimax-m3"], source: "src/models/minimax-m3.cpp:13",
      keys: [
        "attention.layer_norm_rms_epsilon", "expert_feed_forward_length", "expert_shared_count",
        "expert_gating_func", "attention.indexer.head_count", "attention.indexer.key_length",
        "attention.indexer.top_k", "attention.indexer.block_size", "attention.indexer.local_blocks",
      ],
      head: "src/models/minimax-m3.cpp:50",
      block: [
        "attn_k.bias", "attn_k.weight", "attn_k_norm.weight", "attn_norm.weight", "attn_output.weight",
        "attn_q.bias", "attn_q.weight", "attn_q_norm.weight", "attn_qkv.bias", "attn_qkv.weight",
        "attn_v.bias", "attn_v.weight", "exp_probs_b.bias", "ffn_down.weight", "ffn_down_exps.weight",
        "ffn_down_shexp.weight", "ffn_gate.weight", "ffn_gate_exps.weight", "ffn_gate_inp.weight",
        "ffn_gate_shexp.weight", "ffn_norm.weight", "ffn_up.weight", "ffn_up_exps.weight",
        "ffn_up_shexp.weight", "indexer.k_norm.weight", "indexer.k_proj.weight", "indexer.q_norm.weight",
        "indexer.q_proj.weight",
      ],
      whole: []),
    LlamaCppLoader(
      architectures: ["qwen2"], source: "src/models/qwen2.cpp:3",
      keys: [
        "attention.layer_norm_rms_epsilon"
      ],
      head: nil,
      block: [
        "attn_k.bias", "attn_k.weight", "attn_norm.weight", "attn_output.weight", "attn_q.bias",
        "attn_q.weight", "attn_qkv.bias", "attn_qkv.weight", "attn_v.bias", "attn_v.weight",
        "ffn_down.weight", "ffn_gate.weight", "ffn_norm.weight", "ffn_up.weight",
      ],
      whole: ["output.bias"]),
    LlamaCppLoader(
      architectures: ["qwen3"], source: "src/models/qwen3.cpp:3",
      keys: [
        "attention.layer_norm_rms_epsilon"
      ],
      head: nil,
      block: [
        "attn_k.bias", "attn_k.weight", "attn_k_norm.weight", "attn_norm.weight", "attn_output.weight",
        "attn_q.bias", "attn_q.weight", "attn_q_norm.weight", "attn_qkv.bias", "attn_qkv.weight",
        "attn_v.bias", "attn_v.weight", "ffn_down.weight", "ffn_gate.weight", "ffn_norm.weight",
        "ffn_up.weight",
      ],
      whole: ["cls.output.weight"]),
    LlamaCppLoader(
      architectures: ["qwen3vlmoe"], source: "src/models/qwen3vlmoe.cpp:3",
      keys: [
        "rope.dimension_sections", "attention.layer_norm_rms_epsilon",
      ],
      head: nil,
      block: [
        "attn_k.bias", "attn_k.weight", "attn_k_norm.weight", "attn_norm.weight", "attn_output.weight",
        "attn_q.bias", "attn_q.weight", "attn_q_norm.weight", "attn_qkv.bias", "attn_qkv.weight",
        "attn_v.bias", "attn_v.weight", "ffn_down_exps.weight", "ffn_gate_exps.weight",
        "ffn_gate_inp.weight", "ffn_norm.weight", "ffn_up_exps.weight",
      ],
      whole: []),
    LlamaCppLoader(
      architectures: ["qwen3next"], source: "src/models/qwen3next.cpp:4",
      keys: [
        "attention.layer_norm_rms_epsilon", "ssm.conv_kernel", "ssm.inner_size", "ssm.state_size",
        "ssm.time_step_rank", "ssm.group_count",
      ],
      head: nil,
      block: [
        "attn_gate.weight", "attn_k.bias", "attn_k.weight", "attn_k_norm.weight", "attn_norm.weight",
        "attn_output.weight", "attn_q.bias", "attn_q.weight", "attn_q_norm.weight", "attn_qkv.bias",
        "attn_qkv.weight", "attn_v.bias", "attn_v.weight", "ffn_down_exps.weight", "ffn_down_shexp.weight",
        "ffn_gate_exps.weight", "ffn_gate_inp.weight", "ffn_gate_inp_shexp.weight",
        "ffn_gate_shexp.weight", "ffn_gate_up_exps.weight", "ffn_up_exps.weight", "ffn_up_shexp.weight",
        "nextn.eh_proj.weight", "nextn.embed_tokens.weight", "nextn.enorm.weight", "nextn.hnorm.weight",
        "nextn.shared_head_head.weight", "nextn.shared_head_norm.weight", "post_attention_norm.weight",
        "ssm_a", "ssm_ba.weight", "ssm_conv1d.weight", "ssm_dt.bias", "ssm_in.weight", "ssm_norm.weight",
        "ssm_out.weight",
      ],
      whole: []),
    LlamaCppLoader(
      architectures: ["qwen35moe"], source: "src/models/qwen35moe.cpp:4",
      keys: [
        "attention.layer_norm_rms_epsilon", "rope.dimension_sections", "ssm.conv_kernel", "ssm.inner_size",
        "ssm.state_size", "ssm.time_step_rank", "ssm.group_count",
      ],
      head: nil,
      block: [
        "attn_gate.weight", "attn_k.bias", "attn_k.weight", "attn_k_norm.weight", "attn_norm.weight",
        "attn_output.weight", "attn_q.bias", "attn_q.weight", "attn_q_norm.weight", "attn_qkv.bias",
        "attn_qkv.weight", "attn_v.bias", "attn_v.weight", "ffn_down_exps.weight", "ffn_down_shexp.weight",
        "ffn_gate_exps.weight", "ffn_gate_inp.weight", "ffn_gate_inp_shexp.weight",
        "ffn_gate_shexp.weight", "ffn_gate_up_exps.weight", "ffn_up_exps.weight", "ffn_up_shexp.weight",
        "nextn.eh_proj.weight", "nextn.embed_tokens.weight", "nextn.enorm.weight", "nextn.hnorm.weight",
        "nextn.shared_head_head.weight", "nextn.shared_head_norm.weight", "post_attention_norm.weight",
        "ssm_a", "ssm_alpha.weight", "ssm_beta.weight", "ssm_conv1d.weight", "ssm_dt.bias",
        "ssm_norm.weight", "ssm_out.weight",
      ],
      whole: []),
    LlamaCppLoader(
      architectures: ["qwen35"], source: "src/models/qwen35.cpp:4",
      keys: [
        "attention.layer_norm_rms_epsilon", "rope.dimension_sections", "ssm.conv_kernel", "ssm.inner_size",
        "ssm.state_size", "ssm.time_step_rank", "ssm.group_count",
      ],
      head: nil,
      block: [
        "attn_gate.weight", "attn_k.bias", "attn_k.weight", "attn_k_norm.weight", "attn_norm.weight",
        "attn_output.weight", "attn_q.bias", "attn_q.weight", "attn_q_norm.weight", "attn_qkv.bias",
        "attn_qkv.weight", "attn_v.bias", "attn_v.weight", "ffn_down.weight", "ffn_gate.weight",
        "ffn_up.weight", "nextn.eh_proj.weight", "nextn.embed_tokens.weight", "nextn.enorm.weight",
        "nextn.hnorm.weight", "nextn.shared_head_head.weight", "nextn.shared_head_norm.weight",
        "post_attention_norm.weight", "ssm_a", "ssm_alpha.weight", "ssm_beta.weight", "ssm_conv1d.weight",
        "ssm_dt.bias", "ssm_norm.weight", "ssm_out.weight",
      ],
      whole: []),
    LlamaCppLoader(
      architectures: ["glm-dsa"], source: "src/models/glm-dsa.cpp:29",
      keys: [
        "expert_feed_forward_length", "attention.layer_norm_rms_epsilon", "expert_shared_count",
        "attention.q_lora_rank", "attention.kv_lora_rank", "attention.indexer.head_count",
        "attention.indexer.key_length", "attention.indexer.top_k",
      ],
      head: nil,
      block: [
        "attn_k_b.weight", "attn_kv_a_mqa.weight", "attn_kv_a_norm.weight", "attn_norm.weight",
        "attn_output.weight", "attn_q_a.weight", "attn_q_a_norm.weight", "attn_q_b.weight",
        "attn_v_b.weight", "exp_probs_b.bias", "ffn_down.weight", "ffn_down_exps.weight",
        "ffn_down_shexp.weight", "ffn_gate.weight", "ffn_gate_exps.weight", "ffn_gate_inp.weight",
        "ffn_gate_shexp.weight", "ffn_norm.weight", "ffn_up.weight", "ffn_up_exps.weight",
        "ffn_up_shexp.weight", "indexer.attn_k.weight", "indexer.attn_q_b.weight", "indexer.k_norm.bias",
        "indexer.k_norm.weight", "indexer.proj.weight", "nextn.eh_proj.weight",
        "nextn.embed_tokens.weight", "nextn.enorm.weight", "nextn.hnorm.weight",
        "nextn.shared_head_head.weight", "nextn.shared_head_norm.weight",
      ],
      whole: []),
    LlamaCppLoader(
      architectures: ["hy_v3"], source: "src/models/hy-v3.cpp:3",
      keys: [
        "attention.layer_norm_rms_epsilon", "expert_feed_forward_length",
      ],
      head: nil,
      block: [
        "attn_k.bias", "attn_k.weight", "attn_k_norm.weight", "attn_norm.weight", "attn_output.weight",
        "attn_q.bias", "attn_q.weight", "attn_q_norm.weight", "attn_qkv.bias", "attn_qkv.weight",
        "attn_v.bias", "attn_v.weight", "exp_probs_b", "ffn_down.weight", "ffn_down_exps.weight",
        "ffn_down_shexp.weight", "ffn_gate.weight", "ffn_gate_exps.weight", "ffn_gate_inp.weight",
        "ffn_gate_shexp.weight", "ffn_gate_up_exps.weight", "ffn_norm.weight", "ffn_up.weight",
        "ffn_up_exps.weight", "ffn_up_shexp.weight", "nextn.eh_proj.weight", "nextn.embed_tokens.weight",
        "nextn.enorm.weight", "nextn.hnorm.weight", "nextn.shared_head_head.weight",
        "nextn.shared_head_norm.weight",
      ],
      whole: []),
    LlamaCppLoader(
      architectures: ["gemma4"], source: "src/models/gemma4.cpp:4",
      keys: [
        "attention.sliding_window_pattern", "attention.sliding_window", "attention.layer_norm_rms_epsilon",
        "embedding_length_per_layer_input", "attention.key_length_swa", "attention.value_length_swa",
      ],
      head: nil,
      block: [
        "attn_k.weight", "attn_k_norm.weight", "attn_norm.weight", "attn_output.weight", "attn_q.weight",
        "attn_q_norm.weight", "attn_qkv.weight", "attn_v.weight", "ffn_down.weight",
        "ffn_down_exps.weight", "ffn_gate.weight", "ffn_gate_exps.weight", "ffn_gate_inp.scale",
        "ffn_gate_inp.weight", "ffn_gate_up_exps.weight", "ffn_norm.weight", "ffn_up.weight",
        "ffn_up_exps.weight", "inp_gate.weight", "layer_output_scale.weight", "post_attention_norm.weight",
        "post_ffw_norm.weight", "post_ffw_norm_1.weight", "post_ffw_norm_2.weight", "post_norm.weight",
        "pre_ffw_norm_2.weight", "proj.weight",
      ],
      whole: [
        "per_layer_model_proj.weight", "per_layer_proj_norm.weight", "per_layer_token_embd.weight",
        "rope_freqs.weight",
      ]),
    LlamaCppLoader(
      architectures: ["nemotron_h", "nemotron_h_moe"], source: "src/models/nemotron-h.cpp:5",
      keys: [
        "ssm.conv_kernel", "ssm.inner_size", "ssm.state_size", "ssm.time_step_rank", "ssm.group_count",
        "attention.layer_norm_epsilon",
      ],
      head: nil,
      block: [
        "attn_k.bias", "attn_k.weight", "attn_norm.weight", "attn_output.bias", "attn_output.weight",
        "attn_q.bias", "attn_q.weight", "attn_qkv.bias", "attn_qkv.weight", "attn_v.bias", "attn_v.weight",
        "exp_probs_b.bias", "ffn_down.bias", "ffn_down.weight", "ffn_down_exps.weight",
        "ffn_down_shexp.weight", "ffn_gate_inp.weight", "ffn_latent_down.weight", "ffn_latent_up.weight",
        "ffn_up.bias", "ffn_up.weight", "ffn_up_exps.weight", "ffn_up_shexp.weight",
        "nextn.eh_proj.weight", "nextn.enorm.weight", "nextn.hnorm.weight",
        "nextn.shared_head_norm.weight", "post_attention_norm.weight", "ssm_a", "ssm_conv1d.bias",
        "ssm_conv1d.weight", "ssm_d", "ssm_dt.bias", "ssm_in.weight", "ssm_norm.weight", "ssm_out.weight",
      ],
      whole: []),
  ]
}
