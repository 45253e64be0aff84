// Roles that follow from names and dimensions. Formats/roles.md.

import SmeltModels
import SmeltTensors
import Testing

@Suite struct RoleRulesTests {
  /// Name, dimensions, role, layer, expert.
  private static let table = """
    model.language_model.layers.3.mlp.experts.gate_up_proj 8,64,32 routed_up 3 -
    model.layers.1.mlp.experts.7.down_proj.weight 64,32 routed_down 1 7
    backbone.layers.2.mixer.experts.3.up_proj.weight 64,32 routed_up 2 3
    backbone.layers.2.mixer.in_proj.weight 64,32 state_space 2 -
    model.layers.0.linear_attn.conv1d.weight 64,1,4 convolution 0 -
    model.layers.0.linear_attn.A_log 4 state_space 0 -
    model.layers.0.self_attn.q_norm.weight 4 norm 0 -
    model.layers.0.self_attn.q_proj.bias 4 bias 0 -
    model.layers.0.self_attn.o_proj.weight 4,4 attention 0 -
    model.layers.0.mlp.gate.weight 8,4 router 0 -
    model.layers.0.mlp.gate_proj.weight 8,4 dense_gate 0 -
    model.layers.0.mlp.shared_expert.up_proj.weight 8,4 shared_up 0 -
    model.layers.0.mlp.gate.e_score_correction_bias 8 selection_bias 0 -
    model.visual.blocks.0.attn.qkv.weight 8,4 other 0 -
    vision_tower.encoder.layers.1.mlp.fc1.weight 8,4 other 1 -
    patch_merge_mlp.linear_1.weight 8,4 other - -
    model.embed_tokens.weight 8,4 embedding - -
    lm_head.weight 8,4 output_head - -
    model.layers.0.hc_attn_fn 24,256 hyper_connection 0 -
    h.4.attn.c_attn.weight 8,24 other 4 -
    decoder.block.1.layer.0.SelfAttention.q.weight 8,8 attention 1 -
    blk.5.ffn_down_exps.weight 2,8,8 routed_down 5 -
    blk.5.ffn_gate_inp.weight 2,8 router 5 -
    blk.5.attn_q.weight 8,8 attention 5 -
    token_embd.weight 8,8 embedding - -
    model.layers.0.mlp.gate.wg.weight 8,4 router 0 -
    backbone.layers.1.mixer.q_proj.weight 8,4 attention 1 -
    backbone.layers.1.mixer.gate.weight 8,4 router 1 -
    backbone.layers.1.mixer.shared_experts.up_proj.weight 8,4 shared_up 1 -
    backbone.layers.1.mixer.out_proj.weight 8,4 state_space 1 -
    model.layers.0.linear_attn.q_proj.weight 8,4 state_space 0 -
    model.layers.2.temporal_block.o_proj.weight 8,8 attention 2 -
    bert.encoder.layer.1.intermediate.dense.weight 8,4 dense_up 1 -
    bert.encoder.layer.1.output.dense.weight 4,8 dense_down 1 -
    bert.encoder.layer.1.attention.output.dense.weight 8,8 attention 1 -
    cls.predictions.transform.dense.weight 8,8 other - -
    something.else 8,8 other - -
    """

  @Test(arguments: table.split(separator: "\n").map(String.init))
  func theFirstRuleDecides(line: String) throws {
    let words = line.split(separator: " ").map(String.init)
    let shape = Shape(words[1].split(separator: ",").compactMap { Int($0) })
    let found = RoleRules(words[0], shape)
    #expect(found.role.rawValue == words[2], "\(found.rule)")
    #expect(found.layer == Int(words[3]) && found.expert == Int(words[4]))
  }
}
