// What ModelOpt says about quantized tensors.

internal import SmeltStorage
internal import SmeltTensors

/// ModelOpt's part of a configuration: `quantization_config` of config.json, or `quantization` of hf_quant_config.json.
struct ModelOptConfig: Sendable {
  /// The file beside config.json that older versions write instead of a section in it.
  static let sidecarName = "hf_quant_config.json"

  /// The values of `quant_algo` that are read; capitals do not matter.
  enum Algorithm: String, Sendable, CaseIterable {
    case fp8 = "FP8"
    case channelFP8 = "FP8_PER_CHANNEL_PER_TOKEN"
    case blockFP8 = "FP8_PB_WO"
    /// TensorRT-LLM's name for blocks.
    case blockScales = "FP8_BLOCK_SCALES"
    case mxfp8 = "MXFP8"
    case nvfp4 = "NVFP4"
    /// The same codes; activations stay as they are.
    case weightNVFP4 = "W4A16_NVFP4"

    var isFP4: Bool { self == .nvfp4 || self == .weightNVFP4 }
    var dtype: DType { isFP4 ? .u8 : .f8E4M3 }
    /// Columns of a group, where the format has one length only.
    var group: Int? { isFP4 ? NVFP4.group : self == .mxfp8 ? FP4.group : nil }
    /// The side of a block, where the format has blocks.
    var side: Int? { self == .blockFP8 || self == .blockScales ? 128 : nil }
  }

  /// What a module's weight is.
  enum Rule: Equatable {
    case quantized(Algorithm)
    /// Left alone by this entry.
    case excluded(String)
    case none
  }

  let file: String
  private let all: Algorithm?
  /// Modules, containers of modules, and patterns.
  private let modules: [String: Algorithm]
  private let patterns: [(pattern: String, algorithm: Algorithm)]
  private let excluded: Set<String>
  private let excludedPatterns: [String]

  /// Whether some weight must be quantized for the configuration to be true.
  var needsQuantizedWeights: Bool { all != nil || !modules.isEmpty || !patterns.isEmpty }

  /// Reads a section of config.json, or hf_quant_config.json as a whole.
  /// - Throws: `CFG_VALUE`; `RequestError` unsupported for algorithms that are not read.
  init(_ reader: QuantizationReader) throws {
    file = reader.file
    let section = try reader.object("quantization") ?? reader
    var modules: [String: Algorithm] = [:]
    var patterns: [(pattern: String, algorithm: Algorithm)] = []
    if let layers = try section.object("quantized_layers")?.json.object {
      for (key, value) in zip(layers.keys, layers.values) {
        guard value.object != nil else {
          throw section.error("quantized_layers", "'\(excerpt(key))' is \(value.kind), expected an object")
        }
        guard let found = try Self.algorithm(QuantizationReader(value, file: reader.file)) else { continue }
        if Self.isPattern(key) { patterns.append((key, found)) } else { modules[Self.name(key)] = found }
      }
    }
    self.modules = modules
    // The longest pattern is the most particular one.
    self.patterns = patterns.sorted {
      ($0.pattern.utf8.count, $1.pattern) > ($1.pattern.utf8.count, $0.pattern)
    }
    let left = try section.strings("exclude_modules") + section.strings("ignore")
    excluded = Set(left.filter { !Self.isPattern($0) }.map(Self.name))
    excludedPatterns = left.filter(Self.isPattern)
    let name = try section.string("quant_algo")
    // Mixed precision says for each module what it has.
    all = name?.uppercased() == "MIXED_PRECISION" ? nil : try Self.algorithm(section)
  }

  private static func isPattern(_ text: String) -> Bool { text.contains { $0 == "*" || $0 == "?" } }

  /// A module's name; some writers name the weight, or a container with a dot behind it.
  private static func name(_ key: String) -> String {
    if key.hasSuffix(".weight") { return String(key.dropLast(".weight".count)) }
    return key.hasSuffix(".") ? String(key.dropLast()) : key
  }

  private static func algorithm(_ section: QuantizationReader) throws -> Algorithm? {
    guard let name = try section.string("quant_algo") else { return nil }
    guard let algorithm = Algorithm(rawValue: name.uppercased()) else {
      throw section.unsupported(
        "quant_algo", "'\(name)'",
        Algorithm.allCases.map(\.rawValue).joined(separator: ", ") + ", MIXED_PRECISION")
    }
    if let length = algorithm.group ?? algorithm.side,
      let size = try section.integer("group_size", in: 1...65536),
      size != length
    {
      throw section.unsupported("group_size", "\(size) for \(algorithm.rawValue)", "\(length)")
    }
    return algorithm
  }

  /// How a module's weight is quantized. An entry for a module or for a container applies to everything below it; the longest
  /// name wins, names before patterns, and what `exclude_modules` names is not quantized unless a longer name says so.
  func rule(for module: String) -> Rule {
    var name = Substring(module)
    while true {
      if let found = modules[String(name)] { return .quantized(found) }
      if excluded.contains(String(name)) { return .excluded(String(name)) }
      guard let dot = name.lastIndex(of: ".") else { break }
      name = name[..<dot]
    }
    if let pattern = excludedPatterns.first(where: { Self.matches($0, module) }) { return .excluded(pattern) }
    if let (_, found) = patterns.first(where: { Self.matches($0.pattern, module) }) {
      return .quantized(found)
    }
    return all.map { .quantized($0) } ?? .none
  }

  /// Whether a pattern matches a module or a container that holds it. `NAME*` is what the package writes for a container and
  /// all below it: `layers.1*` means no layer 10.
  private static func matches(_ pattern: String, _ module: String) -> Bool {
    var pattern = pattern
    if pattern.hasSuffix("*"), pattern.count > 1, !pattern.hasSuffix(".*"), !pattern.hasSuffix("**") {
      pattern.removeLast()
    }
    return matchesGlob(pattern, module) || matchesGlob(pattern + ".*", module)
  }
}
