// What compressed-tensors says of the rounding of a module's inputs, outputs, or cached keys and values, held against what the package
// takes. Source of the rules: compressed-tensors at ac8e2ba, `quantization/quant_args.py` (validators of `QuantizationArgs`) and
// `quant_scheme.py`. Keys that say nothing of the numbers (`observer`, `zp_dtype`, unknown ones) are passed over, null is absent.

import SmeltStorage
internal import SmeltTensors

/// One section of arguments: `input_activations`, `output_activations`, `kv_cache_scheme`.
struct ActivationArguments: Sendable {
  /// What shares a scale.
  enum Strategy: Sendable, Equatable {
    case tensor, token, head
    case group(Int)
    /// Groups under a scale of the tensor.
    case tensorGroup(Int)
  }

  /// When scales are chosen.
  enum Choice: Sendable {
    case beforehand, local, running
  }

  let strategy: Strategy
  let choice: Choice
  let bits: Int
  let isFloat: Bool
  let isSymmetric: Bool
  /// Whether scales are powers of two: E8M0.
  let hasPowers: Bool
  private let section: ArgumentSection

  /// Reads a section.
  /// - Parameter path: where it lies in the configuration, such as `group_0.input_activations`.
  /// - Throws: `CFG_VALUE` for what the package refuses.
  init(_ json: JSON, file: String, path: String) throws {
    section = ArgumentSection(json: json, file: file, path: path)
    guard json.object != nil else {
      throw section.refusal(nil, "found \(json.kind), expected an object or null")
    }
    isFloat = try section.word("type", among: ["int", "float"]) == "float"
    bits = try section.integer("num_bits", 1...32) ?? 8
    // Floats have a grid for 4 and 8 bits alone: `pytorch_dtype`, `round_to_quantized_type_args`.
    if isFloat, ![4, 8].contains(bits) {
      throw section.refusal("num_bits", "found \(bits), expected 4 or 8 for float")
    }
    guard (2...16).contains(bits) else {
      throw section.refusal("num_bits", "found \(bits), expected a whole number from 2 to 16")
    }
    isSymmetric = try section.bool("symmetric") ?? true
    choice = try ActivationArguments.choice(section)
    let powers = ["uint8", "float8_e8m0fnu"]
    let floats = [
      "float8_e4m3fn", "bfloat16", "float16", "half", "float32", "float", "float64", "double",
    ]
    let name = try section.string("scale_dtype").map {
      String($0.hasPrefix("torch.") ? $0.dropFirst("torch.".count) : Substring($0))
    }
    if let name, !(powers + floats).contains(name) {
      throw section.refusal(
        "scale_dtype",
        "found '\(excerpt(name))', expected \((powers + floats).map { "torch.\($0)" }.joined(separator: ", "))"
      )
    }
    hasPowers = name.map { powers.contains($0) } ?? false
    strategy = try ActivationArguments.strategy(section)
    switch strategy {
    case .token where choice == .beforehand:
      throw section.refusal("dynamic", "expected true: strategy 'token' has no scale chosen beforehand")
    case .tensorGroup: break
    default:
      if choice == .local {
        throw section.refusal("dynamic", "found 'local', which strategy 'tensor_group' alone has")
      }
    }
    if let order = section.value("actorder"), order.bool != false {
      throw section.refusal("actorder", "found \(order.kind), expected null: activations have no order")
    }
  }

  private static func choice(_ section: ArgumentSection) throws -> Choice {
    guard let value = section.value("dynamic") else { return .beforehand }
    // JSON's 0 and 1 pass for truth values in the package.
    if let truth = value.bool ?? value.integer.flatMap({ $0 == 0 ? false : $0 == 1 ? true : nil }) {
      return truth ? .running : .beforehand
    }
    if value.string?.lowercased() == "local" { return .local }
    throw section.refusal(
      "dynamic",
      "found \(value.string.map { "'\(excerpt($0))'" } ?? value.integer.map { "\($0)" } ?? value.kind), expected true, false or \"local\""
    )
  }

  private static func strategy(_ section: ArgumentSection) throws -> Strategy {
    let size = try section.integer("group_size", -1...65536)
    let names = ["tensor", "token", "group", "tensor_group", "attn_head"]
    let inferred = size.map { $0 > 0 ? "group" : $0 == 0 ? "zero" : "channel" } ?? "tensor"
    let name = try section.word("strategy", among: names, or: ["channel", "block"]) ?? inferred
    func group() throws -> Int {
      guard let size, size > 0 else {
        throw section.refusal(
          "group_size",
          "\(size.map { "found \($0)" } ?? "is missing"), expected a whole number from 1 to 65536")
      }
      return size
    }
    switch name {
    case "tensor": return .tensor
    case "token": return .token
    case "attn_head": return .head
    case "group": return .group(try group())
    case "tensor_group": return .tensorGroup(try group())
    case "zero": throw section.refusal("group_size", "found 0, expected a whole number from 1 to 65536")
    default:
      throw section.refusal(
        "strategy", "found '\(name)', which weights alone have, expected \(names.joined(separator: ", "))")
    }
  }

  /// What it says of the inputs of a module of so many columns.
  /// - Throws: `CFG_VALUE` for groups that do not divide the columns; `RequestError` unsupported for what is well-formed and not
  ///   rounded here.
  func inputs(_ module: String, columns: Int, in source: any TensorSource) throws -> DeclaredActivations {
    func unsupported(_ what: String) -> RequestError {
      RequestError(
        .unsupported, "'\(section.path)' in '\(section.file)' has \(what), which is not rounded here",
        help: "supported: INT8 and FP8 of tensors, tokens and groups, FP4 of tensor_group 16")
    }
    guard isSymmetric || isFloat else { return try refuse(unsupported("zero points")) }
    switch strategy {
    case .group(let size), .tensorGroup(let size):
      // Beside FP8 in blocks the last group is shorter where a width is no multiple, as the last block is.
      guard columns % size == 0 || size >= 16 && size.nonzeroBitCount == 1 else {
        throw section.refusal(
          "group_size", "found \(size), expected a divisor of \(columns), the columns of '\(excerpt(module))'"
        )
      }
    default: break
    }
    if case .tensorGroup(let size) = strategy {
      guard isFloat, bits == 4, size == NVFP4.group, choice != .running else {
        return try refuse(
          unsupported(
            "\(bits) bits of \(isFloat ? "float" : "int") in tensor_group \(size)"
              + (choice == .running ? ", dynamic" : "")))
      }
      return DeclaredActivations(
        .local, scale: source.tensor("\(module).input_global_scale"), divides: true,
        missing: "\(module).input_global_scale")
    }
    guard bits == 8 else {
      return try refuse(unsupported("\(bits) bits of \(isFloat ? "float" : "int")"))
    }
    switch strategy {
    case .tensor:
      let name = choice == .running ? nil : "\(module).input_scale"
      return DeclaredActivations(
        .tensor, isFloat: isFloat, scale: name.flatMap { source.tensor($0) }, missing: name)
    case .group(let size):
      guard choice == .running else { return try refuse(unsupported("groups with scales chosen beforehand")) }
      return DeclaredActivations(hasPowers ? .powers(size) : .group(size), isFloat: isFloat)
    case .head: return try refuse(unsupported("strategy 'attn_head'"))
    default: return DeclaredActivations(.token, isFloat: isFloat)
    }
  }

  private func refuse(_ error: RequestError) throws -> DeclaredActivations { throw error }

  /// Why engines would round outputs by it and this program does not; nil for FP8, which means the cache of a key or value projection.
  /// Source: vLLM 0.33, `compressed_tensors_wNa8o8.py`.
  var outputFault: RequestError? {
    isFloat && bits == 8 && strategy == .tensor
      ? nil
      : RequestError(
        .unsupported,
        "'\(section.path)' in '\(section.file)' asks for rounded outputs, which are not rounded here",
        help: "supported: rounded inputs, and FP8 caches of keys and values")
  }

  /// Why keys and values would be cached in another form than FP8 under one scale; nil where it is that.
  var cacheFault: RequestError? {
    isFloat && bits == 8 && isSymmetric && strategy == .tensor && choice == .beforehand
      ? nil : CacheDeclaration.unsupported(section.path, section.file)
  }
}

/// A section of arguments and its place.
private struct ArgumentSection: Sendable {
  let json: JSON
  let file: String
  let path: String

  func value(_ key: String) -> JSON? { json[key].flatMap { $0.isNull ? nil : $0 } }

  func refusal(_ key: String?, _ problem: String) -> FormatError {
    FormatError(
      .configValue, file: file, subject: path + (key.map { ".\($0)" } ?? ""),
      offset: key.flatMap { json[$0]?.offset } ?? json.offset, problem,
      help:
        "correct the entry, or convert with --activations none or a scheme for all weights, which do not ask for it"
    )
  }

  func integer(_ key: String, _ range: ClosedRange<Int>) throws -> Int? {
    guard let value = value(key) else { return nil }
    guard let integer = value.integer, range.contains(integer) else {
      throw refusal(
        key,
        "found \(value.integer.map(String.init) ?? value.kind), expected a whole number from \(range.lowerBound) to \(range.upperBound)"
      )
    }
    return integer
  }

  func bool(_ key: String) throws -> Bool? {
    guard let value = value(key) else { return nil }
    guard let bool = value.bool else {
      throw refusal(key, "found \(value.kind), expected true or false")
    }
    return bool
  }

  func string(_ key: String) throws -> String? {
    guard let value = value(key) else { return nil }
    guard let string = value.string else { throw refusal(key, "found \(value.kind), expected a string") }
    return string
  }

  /// One of some words, whatever its capitals, as the package takes them.
  func word(_ key: String, among names: [String], or others: [String] = []) throws -> String? {
    guard let found = try string(key) else { return nil }
    let word = found.lowercased()
    guard (names + others).contains(word) else {
      throw refusal(key, "found '\(excerpt(found))', expected \(names.joined(separator: ", "))")
    }
    return word
  }
}

/// What a configuration says of cached keys and values: `kv_cache_scheme` of both packages, `kv_cache_quant_algo` of ModelOpt.
enum CacheDeclaration: Sendable {
  /// Nothing, or that they stay as they are.
  case kept
  /// FP8 under one scale for the keys and one for the values of a layer.
  case fp8
  /// Something else, well-formed or not.
  case faulty(any Error)

  static func unsupported(_ path: String, _ file: String, _ found: String = "another form") -> RequestError {
    RequestError(
      .unsupported,
      "'\(path)' in '\(file)' has \(found) for cached keys and values, which is not rounded here",
      help: "supported: FP8 with a scale for each layer's keys and values")
  }

  /// The names that ModelOpt has for caches. Source: ModelOpt at a2fbac7, `torch/export/model_config.py`.
  private static let names = ["FP8", "INT8", "NVFP4", "NVFP4_AFFINE"]

  /// Reads it from a section.
  /// - Parameter isPackage: whether the arguments are all given, as compressed-tensors' are; ModelOpt leaves the strategy out.
  init(_ section: JSON?, file: String) {
    let place: (path: String, value: JSON)? =
      if let value = section?["kv_cache_scheme"], !value.isNull {
        ("kv_cache_scheme", value)
      } else if let value = section?["kv_cache_quant_algo"]
        ?? section?["quantization"]?["kv_cache_quant_algo"],
        !value.isNull
      {
        ("kv_cache_quant_algo", value)
      } else {
        nil
      }
    guard let (path, value) = place else {
      self = .kept
      return
    }
    if value.object != nil {
      do {
        let arguments = try ActivationArguments(value, file: file, path: path)
        self = arguments.cacheFault.map { .faulty($0) } ?? .fp8
      } catch {
        self = .faulty(error)
      }
      return
    }
    guard let name = value.string?.uppercased(), CacheDeclaration.names.contains(name) || name == "AUTO"
    else {
      self = .faulty(
        FormatError(
          .configValue, file: file, subject: path, offset: value.offset,
          "found \(value.string.map { "'\(excerpt($0))'" } ?? value.kind), expected \(CacheDeclaration.names.joined(separator: ", ")) or null",
          help: "correct the entry, or take it out where nothing is cached in fewer bits"))
      return
    }
    self =
      switch name {
      case "FP8": .fp8
      case "AUTO": .kept
      default: .faulty(CacheDeclaration.unsupported(path, file, "'\(name)'"))
      }
  }
}
