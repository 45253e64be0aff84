// What a user asks of a conversion, in words, turned into options.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// A conversion as the command line words it.
package struct ConversionRequest: Sendable {
  var scheme: String?
  var recipePath: String?
  var statisticsPath: String?
  var observer: String?
  var drafts: String
  var exactOnly: Bool
  var compression: String
  var kind: String?
  var overwrite: Bool
  var splitMaxSize: Int?
  var maxShardSize: Int?
  var maxPartSize: Int?

  /// The words.
  package init(
    scheme: String?, recipePath: String?, statisticsPath: String?, observer: String?,
    drafts: String = DraftFate.quantize.rawValue, exactOnly: Bool, compression: String, kind: String?,
    overwrite: Bool, splitMaxSize: Int? = nil, maxShardSize: Int? = nil,
    maxPartSize: Int? = nil
  ) {
    self.scheme = scheme
    self.recipePath = recipePath
    self.statisticsPath = statisticsPath
    self.observer = observer
    self.drafts = drafts
    self.exactOnly = exactOnly
    self.compression = compression
    self.kind = kind
    self.overwrite = overwrite
    self.splitMaxSize = splitMaxSize
    self.maxShardSize = maxShardSize
    self.maxPartSize = maxPartSize
  }

  /// The canonical scheme names, for help.
  package static var schemeNames: String {
    (Schemes.all.map(\.name) + Recipe.mixtureNames).joined(separator: ", ")
  }

  /// The options, with recipe and statistics read and checked against the model.
  /// - Parameter calibrates: whether statistics will be there when the conversion begins.
  /// - Throws: `RequestError` usage or unsupported; `RECIPE_FORMAT`, `STAT_FORMAT`, `STAT_MISMATCH`.
  package func options(
    for model: Model, result: String, calibrates: Bool = false, _ run: RunOptions
  ) throws -> ConvertOptions {
    try requireName(result)
    let container = try Container(result: result, asked: kind)
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
      target: try container.target(
        TargetOptions(
          compression: compression, splitMaxSize: splitMaxSize, maxShardSize: maxShardSize,
          maxPartSize: maxPartSize, scheme: scheme)),
      drafts: try DraftFate(named: drafts), exactOnly: exactOnly, overwrite: overwrite, run: run)
  }

  /// The recipe of a scheme's name, or of one of GGUF's mixtures, which look at the model.
  private static func recipe(_ name: String, for model: Model, hasImportances: Bool) throws -> Recipe {
    let isMixture = Recipe.mixtureNames.contains(name.lowercased())
    if isMixture,
      let recipe = Recipe.gguf(name, for: model.family.weights, hasImportances: hasImportances)
    {
      return recipe
    }
    return Recipe(try SchemeWord(name))
  }
}
