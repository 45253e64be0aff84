// What a user asks of a conversion, in words, turned into options; and the two verbs that are made of others.

import SmeltContainers
import SmeltModels
import SmeltQuantization
public import SmeltStorage
import SmeltTensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A conversion as the command line words it.
public struct ConversionRequest: Sendable {
  var scheme: String?
  var recipePath: String?
  var statisticsPath: String?
  var observer: String?
  var exactOnly: Bool
  var compression: String
  var kind: String?
  var overwrite: Bool
  var splitMaxSize: Int?
  var maxShardSize: Int?
  var maxPartSize: Int?

  /// The words.
  public init(
    scheme: String?, recipePath: String?, statisticsPath: String?, observer: String?, exactOnly: Bool,
    compression: String, kind: String?, overwrite: Bool, splitMaxSize: Int? = nil, maxShardSize: Int? = nil,
    maxPartSize: Int? = nil
  ) {
    self.scheme = scheme
    self.recipePath = recipePath
    self.statisticsPath = statisticsPath
    self.observer = observer
    self.exactOnly = exactOnly
    self.compression = compression
    self.kind = kind
    self.overwrite = overwrite
    self.splitMaxSize = splitMaxSize
    self.maxShardSize = maxShardSize
    self.maxPartSize = maxPartSize
  }

  /// The canonical scheme names, for help.
  public static var schemeNames: String {
    (Schemes.all.map(\.name) + Recipe.mixtureNames).joined(separator: ", ")
  }

  /// The options, with recipe and statistics read and checked against the model.
  /// - Parameter calibrates: whether statistics will be there when the conversion begins.
  /// - Throws: `RequestError` usage or unsupported; `RECIPE_FORMAT`, `STAT_FORMAT`, `STAT_MISMATCH`.
  public func options(
    for model: Model, result: String, calibrates: Bool = false, _ run: RunOptions
  ) throws -> ConvertOptions {
    try requireName(result)
    let kind = try ResultKind(result, asked: kind)
    guard let compression = CodecMode(rawValue: compression) else {
      throw RequestError(
        .usage, "unknown compression '\(compression)'",
        help: "known: \(CodecMode.allCases.map(\.rawValue).joined(separator: ", "))")
    }
    let statistics = try statisticsPath.map { try readStatistics($0, for: model) }
    if let note = statistics?.notes.first(where: { $0.key == Statistics.leftOutNote }) {
      run.progress.announce("the statistics of other tensors are left out: \(excerpt(note.value))")
    }
    var recipe: Recipe
    if let recipePath {
      guard scheme == nil else { throw RequestError(.usage, "give --scheme or --recipe, not both") }
      recipe = try Recipe(try readSmallFile(recipePath, limit: 16 << 20, code: .recipe), file: recipePath)
    } else {
      recipe = try Self.recipe(scheme ?? "keep", for: model, hasImportances: statistics != nil || calibrates)
      recipe.observer = statistics == nil ? .absmax : .mse
    }
    if let observer { recipe.observer = try Observer.named(observer) }
    return ConvertOptions(
      recipe: recipe, statistics: statistics,
      target: try kind.target(
        compression, splitMaxSize, maxShardSize: maxShardSize, maxPartSize: maxPartSize, scheme),
      exactOnly: exactOnly, overwrite: overwrite, run: run)
  }

  /// The recipe of a scheme's name, or of one of GGUF's mixtures, which look at the model.
  private static func recipe(_ name: String, for model: Model, hasImportances: Bool) throws -> Recipe {
    let isMixture = Recipe.mixtureNames.contains(name.lowercased())
    if isMixture,
      let recipe = Recipe.gguf(name, for: model.family.weights, hasImportances: hasImportances)
    {
      return recipe
    }
    return Recipe(try Schemes.named(name))
  }
}

/// The kinds of results, and the names that mean them.
enum ResultKind: String, CaseIterable {
  case ingot
  case gguf
  case safetensors

  /// The kind that was asked for, or the one that the result's name means.
  init(_ result: String, asked: String?) throws {
    if let asked {
      guard let kind = ResultKind(rawValue: asked) else {
        throw unknownName(asked, kind: "kind of result", among: ResultKind.allCases.map(\.rawValue))
      }
      self = kind
    } else {
      self = result.hasSuffix(".ingot") ? .ingot : result.hasSuffix(".gguf") ? .gguf : .safetensors
      if self == .safetensors { try ResultKind.refuseSuffix(result) }
    }
  }

  /// Refuses the name of a folder that looks like a mistyped file: `x.ingto`, `x.safetensors`.
  private static func refuseSuffix(_ result: String) throws {
    let name = fileName(result)
    guard !result.hasSuffix("/"), pathKind(result) != .directory, let dot = name.lastIndex(of: "."),
      dot != name.startIndex
    else { return }
    let suffix = String(name[name.index(after: dot)...])
    let files = ["safetensors", "bin", "pt", "pth", "json", "zip", "tar", "gz", "onnx", "npz"]
    let meant = nearestName(suffix, among: ["ingot", "gguf"])
    guard meant != nil || files.contains(suffix.lowercased()) else { return }
    throw RequestError(
      .usage,
      "the name '\(result)' has no suffix of a result: .ingot, .gguf, or none for a folder of safetensors",
      help: (meant.map { "did you mean .\($0)? " } ?? "") + "a folder of this name: give '\(result)/'")
  }

  func target(
    _ compression: CodecMode, _ splitMaxSize: Int?, maxShardSize: Int?, maxPartSize: Int?, _ scheme: String?
  ) throws -> any ResultTarget {
    guard splitMaxSize == nil || self == .gguf else {
      throw RequestError(.usage, "--split-max-size is for .gguf results")
    }
    guard maxShardSize == nil || self == .safetensors else {
      throw RequestError(.usage, "--max-shard-size is for directories of safetensors")
    }
    guard maxPartSize == nil || self == .ingot else {
      throw RequestError(.usage, "--max-part-size is for .ingot results")
    }
    switch self {
    case .ingot: return IngotResult(compression, maxPartBytes: maxPartSize)
    case .safetensors:
      return SafetensorsResult(
        shardBytes: maxShardSize ?? SafetensorsResult.usualShardBytes, schemeWord: scheme)
    case .gguf:
      return GGUFResult(split: splitMaxSize.map { GGUFPlan.Split(maxBytes: $0) }, recipeName: scheme)
    }
  }
}

/// Calibrates and converts in one: the statistics lie beside the result while they are needed.
/// - Parameters:
///   - choosesObserver: whether the observer is ours to choose: the weighted mean square error then.
///   - method: what chooses codes and scales; nil: rounding to nearest.
///   - budget: how large the result may be; the recipe is chosen by measured sensitivity then.
/// - Throws: as `calibrate` and `convert`.
public func quantize(
  _ model: Model, to path: String, calibration: Windows, textPath: String, choosesObserver: Bool,
  method: MethodOptions? = nil, budget: Budget? = nil, policy: CalibrationPolicy = CalibrationPolicy(),
  _ options: ConvertOptions
) throws -> (CalibrationSummary, ConvertSummary) {
  try model.requireForwardPass()
  try requireName(path)
  try model.refuseAlias(path, and: calibration.files + [textPath])
  return try options.run.holding([path] + [budget?.recipePath].compactMap { $0 }, "quantize") {
    try quantizing(
      model, to: path, calibration: calibration, textPath: textPath, choosesObserver: choosesObserver,
      method: method, budget: budget, policy: policy, options)
  }
}

private func quantizing(
  _ model: Model, to path: String, calibration: Windows, textPath: String, choosesObserver: Bool,
  method: MethodOptions?, budget: Budget?, policy: CalibrationPolicy, _ options: ConvertOptions
) throws -> (CalibrationSummary, ConvertSummary) {
  if !options.resume { try options.target.requireRoom(path, overwrite: options.overwrite) }
  let recipes = Replacement(overwrite: options.overwrite, .recipe)
  if let file = budget?.recipePath {
    try model.refuseAlias(file, and: calibration.files + [textPath])
    try requireCreatable(file, replacing: recipes)
  }
  // What the plan or the budget refuses is refused before the long pass, not after it.
  _ = try Plan(model, options)
  let table = try budget.map { try BudgetTable(model, $0, options) }
  let statisticsPath = withoutSlash(path) + ".partial-statistics"
  guard pathKind(statisticsPath) == .nothing, !isSymbolicLink(statisticsPath) else {
    throw RequestError(
      .cannotCreate, "'\(statisticsPath)' exists, and the statistics of this run would have that name",
      help: "move it away, or choose another name for the result")
  }
  // Stopped in its first half, there is no journal of the second.
  let isConverting = pathKind(ResultJournal.path(path)) == .file
  let isCalibrating = pathKind(ResultJournal.path(statisticsPath)) == .file
  if options.resume, !isConverting, !isCalibrating, pathKind(path) == .nothing {
    throw RequestError.nothingToResume(ResultJournal.path(path))
  }
  if !options.resume, let table {
    try table.requirePossible(table.smallest(), model, to: path, options)
  }
  return try calibrating(
    model, calibration, textPath: textPath, to: statisticsPath, overwrite: false, policy: policy,
    checkpoints: CheckpointOptions(
      resume: options.resume && isCalibrating, seconds: options.checkpointSeconds), options.run
  ) { summary in
    defer { removeFile(statisticsPath) }
    var options = options
    options.resume = options.resume && (isConverting || !isCalibrating)
    return try quantizing(
      model, to: path, calibration, summary, statisticsPath, choosesObserver, method, table, budget, options)
  }
}

/// The second half: with what calibration learned.
private func quantizing(
  _ model: Model, to path: String, _ calibration: Windows, _ summary: CalibrationSummary,
  _ statisticsPath: String,
  _ choosesObserver: Bool, _ method: MethodOptions?, _ table: BudgetTable?, _ budget: Budget?,
  _ options: ConvertOptions
) throws -> (CalibrationSummary, ConvertSummary) {
  var (summary, options) = (summary, options)
  options.statistics = try readStatistics(statisticsPath, for: model)
  summary.path = nil
  if choosesObserver { options.recipe.observer = .mse }
  options.method = method?.json ?? JSON(.null)
  func write(_ options: ConvertOptions) throws -> ConvertSummary {
    var prepared = model
    if let method, method.needsInputs {
      prepared = try prepare(model, calibration, for: path, method, options)
    }
    return try converting(prepared, to: path, options)
  }
  guard let table else { return (summary, try write(options)) }
  let errors = try table.errors(model, calibration, options)
  var recipe = options.recipe
  let converted = try table.convertWithin(path, options) { allowed in
    let chosen = table.choose(errors, allowed, observer: options.recipe.observer)
    recipe = chosen.recipe
    let planned = chosen.summary.bytes.planned
    return (chosen.recipe, planned, planned <= table.least, chosen.summary)
  } write: {
    try write($0)
  }
  if let file = budget?.recipePath {
    try writeFile(
      file, Array(OutputKind.savedText(recipe.json).utf8),
      replacing: Replacement(overwrite: options.overwrite, .recipe))
  }
  return (summary, converted)
}

/// The open lists of this version.
public struct KnownFormats: Sendable {
  /// For machines.
  public let json: JSON
  /// For people.
  public let text: String
}

/// What this version knows, walked from the lists themselves.
public func knownFormats() -> KnownFormats {
  let families = ModelFamilies.all.flatMap { $0.modelTypes }
  let encodings = Encodings.all.map(\.name)
  let containers = [("safetensors", "read, write"), ("gguf", "read, write"), ("ingot", "read, write")]
  var table = Table(["list", "name", ""])
  for family in families { table.add(["family", family, ""]) }
  for (name, use) in containers { table.add(["container", name, use]) }
  for encoding in encodings { table.add(["encoding", encoding, ""]) }
  for scheme in Schemes.all {
    table.add([
      "scheme", scheme.name,
      ([scheme.summary]
        + (scheme.synonyms.isEmpty ? [] : ["also " + scheme.synonyms.joined(separator: ", ")])).joined(
          separator: "; "),
    ])
  }
  for word in InstructionSet.words {
    table.add(["instruction set", word, InstructionSet.available.contains(word) ? "" : "not on this machine"])
  }
  return KnownFormats(
    json: [
      "schema": "smelt.formats/1",
      "instruction_sets": JSON(InstructionSet.available.map { JSON($0) }),
      "families": JSON(families.map { JSON($0) }), "containers": JSON(containers.map { JSON($0.0) }),
      "encodings": JSON(encodings.map { JSON($0) }),
      "schemes": JSON(
        Schemes.all.map {
          [
            "name": JSON($0.name), "synonyms": JSON($0.synonyms.map { JSON($0) }),
            "summary": JSON($0.summary),
          ]
        }),
    ], text: table.text)
}
