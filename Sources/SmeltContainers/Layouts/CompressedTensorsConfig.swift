// The configuration that compressed-tensors writes: groups of modules, how each is quantized, and what is left alone.

internal import SmeltStorage
internal import SmeltTensors

/// `quantization_config` of compressed-tensors. Formats/layouts.md, section 6.
struct CompressedTensorsConfig: Sendable {
  /// How the codes of a group are laid out.
  enum Format: String, Sendable, CaseIterable {
    case dense
    case plain = "naive-quantized"
    case packed = "pack-quantized"
    case nvfp4 = "nvfp4-pack-quantized"
    case mxfp4 = "mxfp4-pack-quantized"
    case mxfp8 = "mxfp8-quantized"

    /// Whether codes are in `weight_packed`.
    var isPacked: Bool { self == .packed || self == .nvfp4 || self == .mxfp4 }

    /// The type of the codes; nil where weights are kept as they are.
    func dtype(isFloat: Bool) -> DType? {
      switch self {
      case .dense: nil
      case .packed: .i32
      case .nvfp4, .mxfp4: .u8
      case .plain: isFloat ? .f8E4M3 : .i8
      case .mxfp8: .f8E4M3
      }
    }

    /// All spellings.
    static let names: [(String, Format)] =
      [("int-quantized", .plain), ("float-quantized", .plain), ("fakequant", .dense)]
      + Format.allCases.map { ($0.rawValue, $0) }
  }

  /// What shares a scale.
  enum Strategy: Sendable, Equatable {
    case tensor, channel
    case group(Int)
    case block(rows: Int, columns: Int)
  }

  /// What a target or ignore entry names.
  enum Target: Sendable {
    /// A module's full name, or the name of a module's class.
    case name(String)
    /// `re:…`
    case pattern(NamePattern, text: String)
  }

  /// One entry of `config_groups`.
  struct Group: Sendable {
    let name: String
    let targets: [Target]
    let format: Format
    let bits: Int
    let isFloat: Bool
    let isSymmetric: Bool
    let strategy: Strategy
    let inputs: Inputs
  }

  let groups: [Group]
  let ignore: [Target]
  /// Groups that name a class of modules, in order.
  private let classes: [(group: Group, class: ModuleClass)]
  private let reader: QuantizationReader

  /// Whether some weight must be quantized for the configuration to be true.
  var needsQuantizedWeights: Bool { groups.contains { $0.format != .dense } }

  /// Reads the section.
  /// - Throws: `CFG_VALUE`; `RequestError` unsupported for formats and strategies that are not read.
  init(_ reader: QuantizationReader) throws {
    self.reader = reader
    if let sparsity = try reader.object("sparsity_config"), let format = try sparsity.string("format"),
      format != "dense"
    {
      throw sparsity.unsupported("sparsity_config.format", "'\(format)'", "dense")
    }
    ignore = try reader.strings("ignore").map { try CompressedTensorsConfig.target($0, "ignore", reader) }
    let all = try reader.string("format")
    let entries = try reader.object("config_groups")?.json.object ?? JSONObject()
    let groups: [Group] = try zip(entries.keys, entries.values).compactMap { key, value in
      guard value.object != nil else {
        throw reader.error("config_groups", "'\(key)' is \(value.kind), expected an object")
      }
      return try CompressedTensorsConfig.group(
        key, QuantizationReader(value, file: reader.file), defaultFormat: all)
    }
    self.groups = groups
    classes = groups.flatMap { group in
      group.targets.compactMap { target in
        if case .name(let name) = target { ModuleClass(name).map { (group, $0) } } else { nil }
      }
    }
  }

  /// A group, or nil when it quantizes activations alone.
  private static func group(_ name: String, _ reader: QuantizationReader, defaultFormat: String?) throws
    -> Group?
  {
    guard let weights = try reader.object("weights") else { return nil }
    let formatName = try reader.string("format") ?? defaultFormat ?? "dense"
    guard let format = Format.names.first(where: { $0.0 == formatName })?.1 else {
      throw reader.unsupported("format", "'\(formatName)'", Format.names.map(\.0).joined(separator: ", "))
    }
    let type = try weights.string("type") ?? "int"
    guard ["int", "float"].contains(type) else {
      throw weights.error("type", "found '\(type)', expected int or float")
    }
    return Group(
      name: name,
      targets: try reader.strings("targets").map { try target($0, "targets", reader) }, format: format,
      bits: try weights.integer("num_bits", in: 1...16) ?? 8, isFloat: type == "float",
      isSymmetric: try weights.bool("symmetric", default: true), strategy: try strategy(weights),
      inputs: Inputs(reader.json, name: name, file: reader.file))
  }

  private static func strategy(_ weights: QuantizationReader) throws -> Strategy {
    let size = try weights.integer("group_size", in: -1...65536)
    let name = try weights.string("strategy") ?? (size == nil ? "tensor" : size == -1 ? "channel" : "group")
    switch name {
    case "tensor": return .tensor
    case "channel": return .channel
    case "group", "tensor_group":
      guard let size, size > 0 else {
        throw weights.error("group_size", "is missing, expected a whole number from 1 to 65536")
      }
      return .group(size)
    case "block":
      guard let block = try weights.pair("block_structure") else {
        throw weights.error("block_structure", "is missing, expected two whole numbers")
      }
      return .block(rows: block.rows, columns: block.columns)
    default:
      throw weights.unsupported("strategy", "'\(name)'", "tensor, channel, group, tensor_group, block")
    }
  }

  private static func target(_ text: String, _ key: String, _ reader: QuantizationReader) throws -> Target {
    guard text.hasPrefix("re:") else { return .name(text) }
    guard let pattern = NamePattern(String(text.dropFirst(3))) else {
      throw reader.unsupported(
        key, "a pattern that is not read, '\(text)'",
        #"literals, . [] () | * + ? {m,n} ^ $ \b \d \w \s (?=) (?!)"#)
    }
    return .pattern(pattern, text: text)
  }

  /// The group of a weight's module: one that names it, else one whose pattern matches it, else one that names its class.
  /// - Throws: `Q_CONFIG` when the module is ignored or no group is meant for it.
  func group(of context: JoinContext) throws -> (Group, Format) {
    let module = context.module
    for entry in ignore {
      guard try matches(entry, module) else { continue }
      throw context.contradicts(
        "is \(context.codes.dtype), but 'ignore' in '\(reader.file)' names '\(module)'")
    }
    for isName in [true, false] {
      for group in groups {
        for target in group.targets {
          if case .name = target, !isName { continue }
          if case .pattern = target, isName { continue }
          if try matches(target, module) { return (group, group.format) }
        }
      }
    }
    // Containers first: what they hold is more particular than all linear layers.
    if classes.count == 1, let only = classes.first, only.class == .linear {
      return (only.group, only.group.format)
    }
    let found = classes.filter { $0.1.holds(module) && $0.1 != .linear } + classes.filter { $0.1 == .linear }
    // A linear layer inside a container is of both classes: the codes say which of the two was meant.
    let best = found.first { context.isStored(as: $0.0) } ?? found.last
    if let best { return (best.0, best.0.format) }
    throw context.contradicts(
      "is \(context.codes.dtype), but no group of config_groups in '\(reader.file)' targets '\(module)'")
  }

  private func matches(_ target: Target, _ module: String) throws -> Bool {
    switch target {
    case .name(let name): return name == module
    case .pattern(let pattern, let text):
      guard let matches = pattern.matches(module) else {
        throw reader.unsupported(
          "config_groups", "a pattern too slow to match, '\(text)'", "simpler patterns")
      }
      return matches
    }
  }
}

/// A class of modules by the name that a framework gives it. Of what class a module is no checkpoint says: this is what their
/// names mean in transformers and in engines.
private enum ModuleClass: Equatable {
  /// Every quantized matrix is a linear layer.
  case linear
  /// What such a container holds, by the names of its place.
  case container([String])

  /// The class of a name, or nil for one that holds no quantized weight.
  init?(_ name: String) {
    guard name.first?.isUppercase == true else { return nil }
    let containers: [(endings: [String], places: [String])] = [
      (["Experts", "Expert", "ExpertMLP", "FusedMoE"], [".experts."]),
      (["Attention"], [".self_attn.", ".attn.", ".attention."]),
      (
        ["MLP", "MoE", "Moe", "MoeBlock", "MoEBlock", "SparseMoeBlock", "FeedForward"],
        [".mlp.", ".ffn.", ".block_sparse_moe.", ".feed_forward."]
      ),
      (["DecoderLayer"], [".layers."]),
    ]
    if name.hasSuffix("Linear") || name == "LinearBase" {
      self = .linear
    } else if let found = containers.first(where: { $0.endings.contains(where: name.hasSuffix) }) {
      self = .container(found.places)
    } else {
      return nil
    }
  }

  /// Whether a module is of the class, or lies in one.
  func holds(_ module: String) -> Bool {
    guard case .container(let places) = self else { return true }
    return places.contains { module.contains($0) }
  }
}

extension JoinContext {
  /// Whether the codes are of the type in which a group's format keeps them.
  fileprivate func isStored(as group: CompressedTensorsConfig.Group) -> Bool {
    codes.dtype == group.format.dtype(isFloat: group.isFloat)
      && codes.name.hasSuffix("_packed") == group.format.isPacked
  }
}

extension CompressedTensorsConfig.Group {
  /// The zero points' tensor. Some writers store zeros for symmetric weights too.
  /// - Throws: `Q_SCALE_MISSING` when asymmetric weights have none.
  func zeroPoints(_ context: JoinContext) throws -> TensorInfo? {
    let name = "\(context.module).weight_zero_point"
    return isSymmetric ? context.source.tensor(name) : try context.sibling(name)
  }

  /// The dimensions that an integer weight's scales have here, and what shares one.
  /// - Throws: `Q_SCALE_SHAPE`; `RequestError` unsupported for blocks.
  func scaleShape(_ context: JoinContext, _ scale: TensorInfo) throws -> (
    shape: Shape, granularity: GroupedIntegers.Granularity
  ) {
    let floats: [DType] = [.f32, .bf16, .f16]
    let (rows, columns) = (context.shape.rows, context.shape.columns)
    switch strategy {
    case .tensor:
      try context.require(scale, floats, [1], [], [1, 1])
      return ([1], .tensor)
    case .channel:
      try context.require(scale, floats, [rows, 1], [rows])
      return ([rows], .channel)
    case .group(let size):
      guard columns % size == 0 else {
        throw context.contradicts("has \(columns) columns, expected a multiple of the groups' \(size)")
      }
      try context.require(scale, floats, [rows, columns / size])
      return ([rows, columns / size], .group(size))
    case .block:
      throw RequestError(
        .unsupported, "'\(context.codes.name)' has integers with one scale a block",
        help: "supported: tensor, channel, group")
    }
  }
}
