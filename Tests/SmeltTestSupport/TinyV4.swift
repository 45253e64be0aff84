// A DeepSeek-V4 small enough to be made, mutated and thrown away in a millisecond: every kind of layer, hash and scored
// routing, in BF16 or in the published FP8 + FP4 layout. The weights are random; the same seed gives the same bytes.
// It writes safetensors by itself, so that a fault may be anything, and so that the reader is not tested by its writer.

package import SmeltStorage
package import SmeltTensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A tensor of a file in the making.
package struct TinyTensor: Sendable {
  /// The name.
  package var name: String
  /// The element type.
  package var dtype: DType
  /// The dimensions.
  package var shape: [Int]
  /// Little-endian bytes.
  package var bytes: [UInt8]

  /// A tensor.
  package init(_ name: String, _ dtype: DType, _ shape: [Int], _ bytes: [UInt8]) {
    self.name = name
    self.dtype = dtype
    self.shape = shape
    self.bytes = bytes
  }
}

/// A checkpoint in the making.
package struct TinyV4: Sendable {
  /// How matrices are stored.
  package enum Layout: Sendable, CaseIterable {
    /// BF16, and F32 where the published files have it.
    case plain
    /// FP8 in blocks with E8M0 scales, experts in FP4.
    case published
  }

  /// What the generator may vary; everything else follows.
  package struct Size: Sendable {
    /// 0 window, 4 indexed, anything else compressed.
    package var ratios = [0, 4, 8]
    /// Layers that route by token id.
    package var hashLayers = 1
    /// Vocabulary entries.
    package var vocabulary = 48
    /// Width of a stream.
    package var hidden = 32
    /// Residual streams.
    package var streams = 2
    /// Tokens a query sees uncompressed.
    package var window = 4
    /// Compressed entries an indexer keeps.
    package var indexKeep = 2
    /// Rows and columns of an FP8 block.
    package var block = 16

    /// The usual size.
    package init() {}

    /// One window-only layer.
    package static let smallest: Size = {
      var size = Size()
      (size.ratios, size.vocabulary) = ([0], 24)
      return size
    }()
  }

  /// The members of config.json.
  package var config: [(key: String, value: JSON)] = []
  /// The tensors in file order.
  package var tensors: [TinyTensor] = []
  private var generator: Generator

  /// A sound checkpoint.
  package init(_ layout: Layout = .plain, size: Size = Size(), seed: UInt64 = 1) {
    generator = Generator(seed: seed)
    makeConfig(layout, size)
    makeTensors(layout, size)
  }

  // MARK: changing it

  /// Gives a key of config.json another value, or none.
  package mutating func set(_ key: String, _ value: JSON?) {
    let place = config.firstIndex { $0.key == key }
    switch (place, value) {
    case (let place?, let value?): config[place].value = value
    case (let place?, nil): config.remove(at: place)
    case (nil, let value?): config.append((key, value))
    case (nil, nil): preconditionFailure("config.json has no '\(key)'")
    }
  }

  /// Changes a tensor.
  package mutating func change(_ name: String, _ body: (inout TinyTensor) -> Void) {
    guard let place = tensors.firstIndex(where: { $0.name == name }) else {
      preconditionFailure("there is no '\(name)'")
    }
    body(&tensors[place])
  }

  /// Takes a tensor out.
  package mutating func remove(_ name: String) {
    precondition(tensors.contains { $0.name == name }, "there is no '\(name)'")
    tensors.removeAll { $0.name == name }
  }

  // MARK: writing it

  /// config.json as text.
  package var configText: String { JSON(members: config.map { ($0.key, $0.value) }).text(indented: true) }

  /// The bytes of a safetensors file.
  package static func file(_ tensors: [TinyTensor]) -> [UInt8] {
    var position = 0
    let members = tensors.map { tensor -> (String, JSON) in
      defer { position += tensor.bytes.count }
      return (
        tensor.name,
        [
          "dtype": JSON(tensor.dtype.rawValue), "shape": JSON(tensor.shape.map { JSON($0) }),
          "data_offsets": [JSON(position), JSON(position + tensor.bytes.count)],
        ]
      )
    }
    let header = Array(JSON(members: members).text().utf8)
    return littleEndian([UInt64(header.count)]) + header + tensors.flatMap(\.bytes)
  }

  /// Writes config.json and the weights, in so many shards with an index, or in one file without.
  package func write(to folder: String, shards: Int = 1) {
    putFile(folder + "/config.json", Array((configText + "\n").utf8))
    guard shards > 1 else {
      putFile(folder + "/model.safetensors", TinyV4.file(tensors))
      return
    }
    let share = ceilDivide(tensors.count, shards)
    var map: [(String, JSON)] = []
    for shard in 0..<shards {
      let name = "model-0000\(shard + 1)-of-0000\(shards).safetensors"
      let part = Array(tensors[shard * share..<min(tensors.count, (shard + 1) * share)])
      map += part.map { ($0.name, JSON(name)) }
      putFile(folder + "/" + name, TinyV4.file(part))
    }
    let index = JSON(members: [("weight_map", JSON(members: map))])
    putFile(folder + "/model.safetensors.index.json", Array(index.text().utf8))
  }

  // MARK: making it

  private mutating func makeConfig(_ layout: Layout, _ size: Size) {
    config = [
      ("model_type", "deepseek_v4"), ("vocab_size", JSON(size.vocabulary)),
      ("hidden_size", JSON(size.hidden)),
      ("num_hidden_layers", JSON(size.ratios.count)), ("num_attention_heads", 2), ("num_key_value_heads", 1),
      ("head_dim", 16), ("qk_rope_head_dim", 8), ("q_lora_rank", 32), ("o_groups", 2), ("o_lora_rank", 16),
      ("moe_intermediate_size", 32), ("n_routed_experts", 4), ("n_shared_experts", 1),
      ("num_experts_per_tok", 2), ("routed_scaling_factor", 1.5), ("num_hash_layers", JSON(size.hashLayers)),
      ("compress_ratios", JSON(size.ratios.map { JSON($0) })), ("sliding_window", JSON(size.window)),
      ("index_n_heads", 4), ("index_head_dim", 16), ("index_topk", JSON(size.indexKeep)),
      ("hc_mult", JSON(size.streams)), ("hc_sinkhorn_iters", 20), ("hc_eps", 1e-6), ("rms_norm_eps", 1e-6),
      ("swiglu_limit", 2.5), ("rope_theta", 10000), ("compress_rope_theta", 160_000),
      (
        "rope_scaling",
        [
          "type": "yarn", "factor": 4, "beta_fast": 32, "beta_slow": 1,
          "original_max_position_embeddings": 64,
        ]
      ),
      ("tie_word_embeddings", false), ("torch_dtype", "bfloat16"),
    ]
    guard layout == .published else { return }
    config.append(
      (
        "quantization_config",
        [
          "quant_method": "fp8", "fmt": "e4m3", "scale_fmt": "ue8m0", "activation_scheme": "dynamic",
          "weight_block_size": [JSON(size.block), JSON(size.block)],
        ]
      ))
  }

  private mutating func makeTensors(_ layout: Layout, _ size: Size) {
    let (hidden, m) = (size.hidden, size.streams)
    bf16("embed.weight", [size.vocabulary, hidden])
    for (layer, ratio) in size.ratios.enumerated() {
      let prefix = "layers.\(layer)."
      bf16(prefix + "attn_norm.weight", [hidden])
      bf16(prefix + "ffn_norm.weight", [hidden])
      for site in ["attn", "ffn"] {
        f32(prefix + "hc_\(site)_fn", [(2 + m) * m, m * hidden])
        f32(prefix + "hc_\(site)_base", [(2 + m) * m])
        f32(prefix + "hc_\(site)_scale", [3])
      }
      f32(prefix + "attn.attn_sink", [2])
      matrix(prefix + "attn.wq_a", 32, hidden, layout, size)
      bf16(prefix + "attn.q_norm.weight", [32])
      matrix(prefix + "attn.wq_b", 32, 32, layout, size)
      matrix(prefix + "attn.wkv", 16, hidden, layout, size)
      bf16(prefix + "attn.kv_norm.weight", [16])
      matrix(prefix + "attn.wo_a", 32, 16, layout, size)
      matrix(prefix + "attn.wo_b", hidden, 32, layout, size)
      if ratio > 0 { compressor(prefix + "attn.compressor", ratio, hidden) }
      if ratio == 4 {
        matrix(prefix + "attn.indexer.wq_b", 64, 32, layout, size)
        bf16(prefix + "attn.indexer.weights_proj.weight", [4, hidden])
        compressor(prefix + "attn.indexer.compressor", 4, hidden)
      }
      bf16(prefix + "ffn.gate.weight", [4, hidden])
      if layer < size.hashLayers {
        let rows = (0..<size.vocabulary).flatMap { _ -> [Int64] in
          let first = Int64(generator.next() % 4)
          return [first, (first + 1 + Int64(generator.next() % 3)) % 4]
        }
        tensors.append(
          TinyTensor(prefix + "ffn.gate.tid2eid", .i64, [size.vocabulary, 2], littleEndian(rows)))
      } else {
        f32(prefix + "ffn.gate.bias", [4])
      }
      for expert in 0..<4 {
        for (name, rows, columns) in [("w1", 32, hidden), ("w2", hidden, 32), ("w3", 32, hidden)] {
          let name = prefix + "ffn.experts.\(expert).\(name)"
          layout == .plain ? bf16(name + ".weight", [rows, columns]) : fp4(name, rows, columns)
        }
      }
      for (name, rows, columns) in [("w1", 32, hidden), ("w2", hidden, 32), ("w3", 32, hidden)] {
        matrix(prefix + "ffn.shared_experts.\(name)", rows, columns, layout, size)
      }
    }
    bf16("norm.weight", [hidden])
    f32("hc_head_fn", [m, m * hidden])
    f32("hc_head_base", [m])
    f32("hc_head_scale", [1])
    bf16("head.weight", [size.vocabulary, hidden])
  }

  private mutating func compressor(_ prefix: String, _ ratio: Int, _ hidden: Int) {
    let copies = ratio == 4 ? 2 : 1
    bf16(prefix + ".wkv.weight", [copies * 16, hidden])
    bf16(prefix + ".wgate.weight", [copies * 16, hidden])
    f32(prefix + ".ape", [ratio, copies * 16])
    bf16(prefix + ".norm.weight", [16])
  }

  private mutating func matrix(_ name: String, _ rows: Int, _ columns: Int, _ layout: Layout, _ size: Size) {
    guard layout == .published else { return bf16(name + ".weight", [rows, columns]) }
    let codes = bytes(rows * columns).map { $0 & 0x7F == 0x7F ? $0 & 0xFE : $0 }
    let grid = [ceilDivide(rows, size.block), ceilDivide(columns, size.block)]
    tensors.append(TinyTensor(name + ".weight", .f8E4M3, [rows, columns], codes))
    tensors.append(
      TinyTensor(name + ".scale", .f8E8M0, grid, bytes(grid[0] * grid[1]).map { 116 + $0 % 3 }))
  }

  private mutating func fp4(_ name: String, _ rows: Int, _ columns: Int) {
    tensors.append(TinyTensor(name + ".weight", .i8, [rows, columns / 2], bytes(rows * columns / 2)))
    let scales = bytes(rows * (columns / 32)).map { 122 + $0 % 3 }
    tensors.append(TinyTensor(name + ".scale", .f8E8M0, [rows, columns / 32], scales))
  }

  /// Magnitudes from 1/64 to 1, any sign; norms would rather be near 1, but a test wants them to matter.
  private mutating func bf16(_ name: String, _ shape: [Int]) {
    let values = (0..<shape.reduce(1, *)).map { _ in UInt16(truncatingIfNeeded: float() >> 16) }
    tensors.append(TinyTensor(name, .bf16, shape, littleEndian(values)))
  }

  private mutating func f32(_ name: String, _ shape: [Int]) {
    let values = (0..<shape.reduce(1, *)).map { _ in float() }
    tensors.append(TinyTensor(name, .f32, shape, littleEndian(values)))
  }

  private mutating func float() -> UInt32 {
    let bits = generator.next()
    let exponent = 121 + UInt32(bits >> 40) % 6
    return UInt32(bits & 1) << 31 | exponent << 23 | UInt32(truncatingIfNeeded: bits >> 8) & 0x7F_FFFF
  }

  private mutating func bytes(_ count: Int) -> [UInt8] {
    (0..<count).map { _ in UInt8(truncatingIfNeeded: generator.next() >> 24) }
  }
}

/// The bytes of integers.
package func littleEndian<T: FixedWidthInteger>(_ values: [T]) -> [UInt8] {
  values.flatMap { value in withUnsafeBytes(of: value.littleEndian) { Array($0) } }
}

/// Puts these bytes at `path`, whatever is there; no sync, no rename, for tests that write thousands.
package func putFile(_ path: String, _ bytes: [UInt8]) {
  guard let file = fopen(path, "wb") else { preconditionFailure("cannot write \(path)") }
  defer { fclose(file) }
  precondition(fwrite(bytes, 1, bytes.count, file) == bytes.count)
}
