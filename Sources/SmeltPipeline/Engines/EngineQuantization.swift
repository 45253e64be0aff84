// The part of a configuration that engines choose a module's scheme by: targets, ignored modules, the order in which they are
// tried.

import SmeltContainers
import SmeltStorage

/// The quantization that a directory's configuration declares, and how an engine looks it up.
struct EngineQuantization: Sendable {
  /// `quant_method`; nil where nothing is quantized.
  let method: String?
  /// The format of the whole configuration of compressed-tensors.
  let format: String?
  /// The section.
  let json: JSON
  private let groups: [(targets: [Pattern], scheme: EngineScheme)]
  private let ignored: [Pattern]
  /// What modules have that nothing names.
  private let all: EngineScheme?
  /// What routed experts have where a key of their own says so.
  private let routed: EngineScheme?
  /// Modules by their own names, and containers of modules.
  private let layers: [(name: String, scheme: EngineScheme)]

  /// One entry of a list of targets or ignored modules.
  private enum Pattern: Sendable {
    case name(String)
    case expression(NamePattern)
    case glob(String)
    /// A class of modules.
    case type(String)
    /// An expression that this program does not read.
    case unread
  }

  /// The section of a configuration, at its root or in the text model's.
  static func section(_ config: JSON, sidecar: JSON?) -> JSON? {
    for holder in [config] + QuantizationConfig.wrapperKeys.compactMap({ config[$0] }) {
      for key in ["quantization_config", "compression_config"] {
        if let found = holder[key], found.object != nil { return found }
      }
    }
    return sidecar
  }

  /// Reads a section.
  /// - Parameters:
  ///   - routed: what a key outside the section says of routed experts.
  ///   - rename: a module's name in the files to its name in the engine; expressions are not renamed.
  init(_ section: JSON?, isSidecar: Bool, routed: EngineScheme?, rename: (String) -> String) {
    self.routed = routed
    json = section ?? JSON(members: [])
    let named = isSidecar ? "modelopt" : section?["quant_method"]?.string
    method = named
    let settings = json["quantization"] ?? json
    format = json["format"]?.string
    func pattern(_ text: String) -> Pattern {
      if text.hasPrefix("re:") {
        return NamePattern(String(text.dropFirst(3))).map { .expression($0) } ?? .unread
      }
      if !text.contains("."), text.first?.isUppercase == true { return .type(text.lowercased()) }
      return .name(rename(text))
    }
    func strings(_ key: String) -> [String] { settings[key]?.array?.compactMap(\.string) ?? [] }
    var groups: [(targets: [Pattern], scheme: EngineScheme)] = []
    var ignored: [Pattern] = []
    var all: EngineScheme?
    var layers: [(name: String, scheme: EngineScheme)] = []
    switch named {
    case "compressed-tensors":
      for group in json["config_groups"]?.object?.values ?? [] {
        guard let scheme = EngineScheme(group: group, format: format) else { continue }
        groups.append(((group["targets"]?.array ?? []).compactMap(\.string).map(pattern), scheme))
      }
      ignored = strings("ignore").map(pattern)
    case let name? where name.hasPrefix("modelopt"):
      let size = settings["group_size"]?.integer
      all = settings["quant_algo"]?.string.flatMap { EngineScheme(algorithm: $0, group: size) }
      if let object = settings["quantized_layers"]?.object {
        for (key, value) in zip(object.keys, object.values) {
          let size = value["group_size"]?.integer
          guard let scheme = value["quant_algo"]?.string.flatMap({ EngineScheme(algorithm: $0, group: size) })
          else { continue }
          layers.append((rename(key), scheme))
        }
      }
      let left = json["ignore"] == nil ? strings("exclude_modules") : strings("ignore")
      ignored = left.map { $0.contains("*") ? .glob(rename($0)) : .name(rename($0)) }
    case "fp8"?, "mxfp8"?, "deepseek_v4_fp8"?:
      let block = json["weight_block_size"]?.array?.compactMap(\.integer)
      let isStatic = json["activation_scheme"]?.string == "static"
      let pair: (Int, Int)? =
        block.flatMap { $0.count == 2 ? ($0[0], $0[1]) : nil } ?? (named == "mxfp8" ? (1, 32) : nil)
      all = EngineScheme(
        bits: 8, isFloat: true, strategy: pair == nil ? "tensor" : "block", group: pair?.1,
        blockRows: pair?.0,
        activations: EngineInputs(
          bits: 8, isFloat: true, strategy: pair == nil ? (isStatic ? "tensor" : "token") : "group",
          group: pair?.1, isDynamic: !isStatic))
      let left = strings("ignored_layers")
      ignored = (left.isEmpty ? strings("modules_to_not_convert") : left).map { .name(rename($0)) }
    case "mxfp4"?:
      groups = [
        ([.type("routedexperts")], EngineScheme(bits: 4, isFloat: true, strategy: "group", group: 32))
      ]
    case "gptq"?, "awq"?:
      let size = settings["group_size"]?.integer
      all = EngineScheme(
        bits: settings["bits"]?.integer ?? 4, isFloat: false, strategy: size == -1 ? "channel" : "group",
        group: size == -1 ? nil : size,
        isSymmetric: settings["sym"]?.bool ?? !(settings["zero_point"]?.bool ?? (named == "awq")),
        isIndexed: settings["desc_act"]?.bool ?? false)
      ignored = strings("modules_to_not_convert").map { .name(rename($0)) }
    default: break
    }
    (self.groups, self.ignored, self.all, self.layers) = (groups, ignored, all, layers)
  }

  /// Whether weights of one kind or another are declared by classes of modules, names or expressions.
  var isCompressed: Bool { method == "compressed-tensors" }

  /// Whether ModelOpt's list says what each module has.
  var listsModules: Bool { !layers.isEmpty }

  /// The schemes of config_groups.
  var schemes: [EngineScheme] { groups.map(\.scheme) }

  /// What is declared for experts whose `experts` module has this name in the engine.
  /// - Parameter probes: the modules by whose names the engine asks.
  func experts(_ module: String, probes: [String]) -> [EngineFound] {
    if let routed { return [.scheme(routed)] }
    if method == "mxfp4" { return [groups.first.map { .scheme($0.scheme) } ?? .plain] }
    guard isCompressed else { return [found(module, parts: [], isExpert: true)] }
    return probes.map { probe in
      if ignored.contains(where: { matches($0, probe) }) { return .plain }
      return target(probe) ?? type("routedexperts") ?? type("linear") ?? .plain
    }
  }

  /// What is declared for a linear module.
  /// - Parameters:
  ///   - name: its name in the engine.
  ///   - parts: where it is fused, the names of what it is made of.
  ///   - typesFirst: whether classes of modules come before the names of parts.
  func linear(_ name: String, parts: [String], typesFirst: Bool) -> EngineFound {
    if method == "mxfp4" { return .plain }
    guard isCompressed else { return found(name, parts: parts, isExpert: false) }
    if !ignored.contains(where: { matches($0, name) }) {
      let left = parts.map { part in ignored.contains { matches($0, part) } }
      if left.contains(true) { return left.contains(false) ? .mixed : .plain }
    } else {
      return .plain
    }
    if let found = target(name) { return found }
    // A fused module's class, for example MergedColumnParallelLinear, holds the word.
    if typesFirst, let found = type("linear") { return found }
    let each = parts.map(target)
    if !each.isEmpty, each.allSatisfy({ $0 != nil }), let first = each[0] { return first }
    return type("linear") ?? .plain
  }

  private func target(_ name: String) -> EngineFound? {
    for group in groups {
      if group.targets.contains(where: { matches($0, name) }) { return .scheme(group.scheme) }
    }
    return nil
  }

  private func type(_ name: String) -> EngineFound? {
    for group in groups {
      for case .type(let type) in group.targets where name.contains(type) { return .scheme(group.scheme) }
    }
    return nil
  }

  private func matches(_ pattern: Pattern, _ name: String) -> Bool {
    switch pattern {
    case .name(let text): text == name
    case .expression(let expression): expression.matches(name) ?? false
    case .glob(let text): matchesGlob(text, name)
    case .type, .unread: false
    }
  }

  /// The makers' methods and ModelOpt's: everything but what is named, or what is named alone.
  private func found(_ name: String, parts: [String], isExpert: Bool) -> EngineFound {
    func isLeft(_ name: String) -> Bool {
      ignored.contains { pattern in
        if case .name(let text) = pattern {
          if text == name || name.hasPrefix(text + ".") { return true }
          return isExpert && text.hasPrefix(name + ".")
        }
        return matches(pattern, name)
      }
    }
    if isLeft(name) { return .plain }
    let left = parts.map(isLeft)
    if left.contains(true) { return left.contains(false) ? .mixed : .plain }
    guard !layers.isEmpty else { return all.map { .scheme($0) } ?? .plain }
    for candidate in [name] + parts {
      if let found = layers.first(where: { $0.name == candidate || candidate.hasPrefix($0.name + ".") }) {
        return .scheme(found.scheme)
      }
    }
    if isExpert, let found = layers.first(where: { $0.name.hasPrefix(name + ".") }) {
      return .scheme(found.scheme)
    }
    return .plain
  }
}
