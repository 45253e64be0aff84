// What a user asks of a conversion, in words, turned into options.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// A conversion as the command line words it.
package struct ConversionRequest: Sendable {
  var scheme: String?
  var deployment: Deployment?
  var recipePath: String?
  var statisticsPath: String?
  var observer: String?
  var drafts: String
  var exactOnly: Bool
  var compression: String?
  var kind: String?
  var overwrite: Bool
  var splitMaxSize: Int?
  var maxShardSize: Int?
  var maxPartSize: Int?
  var engines: EngineWords

  /// The words.
  package init(
    scheme: String?, deployment: Deployment? = nil, recipePath: String?, statisticsPath: String?,
    observer: String?,
    drafts: String = DraftFate.quantize.rawValue, exactOnly: Bool, compression: String?, kind: String?,
    overwrite: Bool, splitMaxSize: Int? = nil, maxShardSize: Int? = nil,
    maxPartSize: Int? = nil, engines: EngineWords = EngineWords()
  ) {
    self.engines = engines
    self.scheme = deployment?.scheme ?? scheme
    self.deployment = deployment
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

  /// Every name of a scheme, for help.
  package static var schemeNames: String {
    SchemeName.all.map(\.name).filter { !$0.hasSuffix(Recipe.keepHead) }.joined(separator: ", ")
      + "; in a .gguf llama-quantize's names mean its types, and NAME\(Recipe.keepHead) keeps embeddings and output head"
  }

  /// Names that engines' users know, and what they mean: those that say more than a scheme, or another one in a directory.
  package static var engineWords: [(word: String, meaning: String)] {
    CompressedLayout.presets.sorted { $0.key < $1.key }.map {
      (
        $0.key,
        "in capitals, for a directory: \($0.value) with static scales of activations, from calibration"
      )
    } + SchemeWord.known.map { ($0.word, SchemeWord($0.scheme, $0.activations).name) }
  }

  /// The options, with recipe and statistics read and checked against the model.
  /// - Parameter calibrates: whether statistics will be there when the conversion begins.
  /// - Throws: `RequestError` usage or unsupported; `RECIPE_FORMAT`, `STAT_FORMAT`, `STAT_MISMATCH`.
  package func options(
    for model: Model, result: String, calibrates: Bool = false, _ run: RunOptions
  ) throws -> ConvertOptions {
    try requireName(result)
    let container = try Container(result: result, asked: kind)
    if let deployment {
      try deployment.require(container, result, hasText: calibrates || statisticsPath != nil)
      run.progress.announce(deployment.text)
    }
    let target = try target(in: container)
    let statistics = try statisticsPath.map { try readStatistics($0, for: model) }
    if let note = statistics?.notes.first(where: { $0.key == Statistics.leftOutNote }) {
      run.progress.announce("the statistics of other tensors are left out: \(excerpt(note.value))")
    }
    var recipe: Recipe
    if let recipePath {
      guard scheme == nil else { throw RequestError(.usage, "give --scheme or --recipe, not both") }
      recipe = try Recipe(try readSmallFile(recipePath, limit: 16 << 20, code: .recipe), file: recipePath)
    } else {
      let preset = scheme.flatMap {
        container.name == Container.safetensors.name ? CompressedLayout.presets[$0] : nil
      }
      recipe = try Self.recipe(
        preset ?? scheme ?? "keep", for: model, in: container,
        hasImportances: statistics != nil || calibrates, drops: drafts == DraftFate.drop.rawValue)
      recipe.observer = statistics == nil ? nil : .mse
    }
    if let observer { recipe.observer = try Observer.orAuto(observer) }
    var options = ConvertOptions(
      recipe: recipe, statistics: statistics,
      target: target,
      drafts: try DraftFate(named: drafts), exactOnly: exactOnly, overwrite: overwrite, run: run)
    options.calibrates = calibrates
    if container.name == Container.safetensors.name {
      options.words = words
    } else if let scheme, CompressedLayout.presets[scheme] != nil {
      options.remarks.append(
        "\(scheme) in capitals has static scales of activations, which only a directory holds: here it is \(try SchemeWord(scheme).name), of the weights alone"
      )
    }
    return options
  }

  /// Refuses what `options` refuses whatever the model is: names that nobody knows, options that a container does not have. Files are
  /// not looked at.
  /// - Throws: `RequestError` usage, unsupported.
  package func check(result: String) throws {
    try requireName(result)
    let container = try Container(result: result, asked: kind)
    if let deployment { try deployment.require(container, result, hasText: statisticsPath != nil) }
    _ = try target(in: container)
    _ = try DraftFate(named: drafts)
    if let observer { _ = try Observer.orAuto(observer) }
    guard let scheme else { return }
    guard recipePath == nil else { throw RequestError(.usage, "give --scheme or --recipe, not both") }
    if container.name == Container.safetensors.name, CompressedLayout.presets[scheme] != nil { return }
    let (name, keepsHead) = Recipe.parts(of: scheme)
    if keepsHead, GGUFScheme.all.contains(where: { $0.name == name }) { return }
    if Self.mixtures(in: container, keepsHead: keepsHead).contains(name) { return }
    _ = try SchemeWord(scheme)
  }

  /// Where and how the result is written.
  private func target(in container: Container) throws -> any ResultTarget {
    let compression = try compression.map { name in
      guard let mode = CodecMode(rawValue: name) else {
        throw unknownName(name, kind: "compression", among: CodecMode.allCases.map(\.rawValue))
      }
      return mode
    }
    return try container.target(
      TargetOptions(
        compression: compression, splitMaxSize: splitMaxSize, maxShardSize: maxShardSize,
        maxPartSize: maxPartSize, scheme: scheme, engines: engines))
  }

  /// What was said of a directory beside the recipe: with it the same directory can be made again. Null where nothing was.
  private var words: JSON {
    let said = [
      ("scheme", recipePath == nil ? scheme : nil), ("layout", engines.layout),
      ("activations", engines.activations), ("kv_cache", engines.cache),
    ].compactMap { key, word in word.map { (key, JSON($0)) } }
    return said.isEmpty ? JSON(.null) : JSON(members: said)
  }

  /// The recipe of a scheme's name, or of one of llama-quantize's names, which look at the model: mixtures in any container, and in a
  /// `.gguf` the names of schemes and short names too. `NAME:keep-head` keeps embeddings and output head.
  private static func recipe(
    _ text: String, for model: Model, in container: Container, hasImportances: Bool, drops: Bool
  ) throws -> Recipe {
    let (name, keepsHead) = Recipe.parts(of: text)
    let isScheme = GGUFScheme.all.contains { $0.name == name }
    if keepsHead, isScheme { return Recipe(try Schemes.named(name)) }
    if mixtures(in: container, keepsHead: keepsHead).contains(name) {
      let mixed = try mixtureModel(model, container, drops: drops)
      if let recipe = Recipe.gguf(name, for: mixed, hasImportances: hasImportances, keepsHead: keepsHead) {
        return recipe
      }
    }
    return Recipe(try SchemeWord(text))
  }

  /// The names of llama-quantize's that look at the model.
  private static func mixtures(in container: Container, keepsHead: Bool) -> [String] {
    container.name == Container.gguf.name && !keepsHead ? Recipe.llamaNames : Recipe.mixtureNames
  }

  /// The model's tensors as llama-quantize would find them in a GGUF file.
  private static func mixtureModel(_ model: Model, _ container: Container, drops: Bool) throws -> MixtureModel
  {
    let target = GGUFResult()
    guard !GGUFResult.isGeneric(model.family) else {
      return MixtureModel(model.family.weights, keys: try UnknownGGUF.numbers(model), namesAreGGUFs: true)
    }
    let isGGUF = container.name == Container.gguf.name
    var specs = model.family.weights
    guard let architecture = GGUFArchitectures.of(model.family), let text = try model.textConfig() else {
      return MixtureModel(specs)
    }
    if isGGUF {
      specs = specs.filter { !(drops && $0.isDraft) && target.leaves($0, model) == nil }
      for spec in specs {
        for part in target.parts(of: spec, model) where part.role != spec.role {
          specs.append(
            WeightSpec(WeightName(part.tensor), part.shape, part.role, layer: spec.layer, spellings: []))
        }
      }
    }
    // The blocks that the result holds are those that its keys count.
    let holdsDrafts = specs.contains { $0.isDraft }
    let counted = try ResultConfig.counting(
      holdsDrafts ? (model.family as? CarryingFamily)?.draftBlocks ?? 0 : 0,
      try ResultConfig.text(text, holdsDrafts: holdsDrafts))
    let config = ConfigReader(try parseConfig(counted, file: "config.json"), file: "config.json")
    return MixtureModel(
      specs, family: model.family, keys: try architecture.keys(of: model.family, config), splits: isGGUF)
  }
}
