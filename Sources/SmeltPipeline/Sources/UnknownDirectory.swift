// A directory whose architecture no family knows, and what a known family's directory holds beside the family's weights: tables made
// from the tensors themselves. Formats/roles.md.

import SmeltContainers
import SmeltModels
import SmeltStorage
import SmeltTensors

extension WeightSpec {
  /// A weight that was found among a source's tensors.
  init(_ found: FoundWeight, dialects: Int = 1, hasLayer: Bool = true) {
    self.init(
      carried: WeightName(found.name, expert: found.stackIndex), found.joined.shape, found.place,
      dialects: dialects, hasLayer: hasLayer)
  }
}

extension RequestError {
  /// What is wrong and what would be right, in one line.
  var sentence: String { problem + (help.map { " (\($0))" } ?? "") }
}

/// A directory of which no family has the `model_type`, or none computes the variant; or one without config.json.
struct UnknownDirectory {
  /// What config.json calls the architecture.
  var type: String
  /// The text of config.json, where there is one.
  var configBytes: Bytes?
  var config: JSON
  var path: String
  var carried: CarriedFiles
  var allowDrop: [String]
  /// What the family of the `model_type`, or of the text model's, does not compute.
  var refusal: String?
  private let source: SafetensorsDirectory
  private let quantization: QuantizationConfig
  private var dropped: [(tensor: TensorInfo, rule: DropRule)] = []

  /// Reads the headers.
  /// - Throws: refusals of the safetensors, of the quantization that config.json describes, and of a pattern of the user's.
  init(
    _ type: String, _ configBytes: Bytes?, _ config: JSON, _ path: String, _ carried: CarriedFiles,
    sidecar: JSON?, allowDrop: [String], refusal: String? = nil
  ) throws {
    (self.type, self.configBytes, self.config, self.path) = (type, configBytes, config, path)
    (self.carried, self.allowDrop, self.refusal) = (carried, allowDrop, refusal)
    source = try SafetensorsDirectory(path: path)
    quantization = try QuantizationConfig(config: config, file: "config.json", sidecar: sidecar)
    for tensor in source.tensors {
      if let rule = try UnknownName(tensor.name).allowed(by: allowDrop) { dropped.append((tensor, rule)) }
    }
  }

  /// The text model as its family and the rest carried, or, where no family knows the text model either, all of it carried.
  func open() throws -> OpenedSource {
    var refusal = refusal
    var text: (any ModelFamily)?
    do {
      text = try textModel()
    } catch let error as RequestError where error.kind == .unsupported {
      refusal = error.sentence
    }
    do {
      if let text {
        if let wrapped = try wrapped(text) { return wrapped }
        refusal = absence(text)
      }
    } catch let error as RequestError where error.kind == .unsupported {
      refusal = error.sentence
    }
    let found = try Layouts.everything(in: source, except: droppedSet, quantization)
    let drafts = DraftNames(config)
    return opened(
      UnknownArchitecture(
        type, config: config, dialect: "hub", found.map { WeightSpec($0).marked(by: drafts) },
        refusal: refusal), "hub",
      found.map(\.joined))
  }

  /// The family of the text model that config.json wraps; nil where no family knows it.
  /// - Throws: refusals of its configuration, `RequestError` unsupported for a variant that is not computed.
  private func textModel() throws -> (any ModelFamily)? {
    let hasHead = source.tensors.contains { WrapperForm.isHead($0.name) }
    guard let text = TextConfig(config, hasHead: hasHead) else { return nil }
    return try ModelFamilies.family(
      of: text.json, file: "config.json", byteCount: source.files.reduce(0) { $0 + $1.byteCount })
  }

  private var droppedSet: TensorSet { TensorSet(dropped.map(\.tensor)) }

  private func opened(_ family: any ModelFamily, _ dialect: String, _ joined: [JoinedWeight]) -> OpenedSource
  {
    let files = carried.files
    return OpenedSource(
      container: "safetensors", source: source, family: family, dialect: dialect, joined: joined,
      dropped: dropped, config: configBytes, saysActivations: quantization.saysActivations,
      cacheFault: quantization.cacheFault,
      smallFiles: { files },
      leftFiles: carried.left(besides: source), mappedFiles: carried.mappings)
  }

  /// Refuses tensors of the text model that none of its weights is made of: what they stand for would be left out of the pass unseen.
  /// - Throws: `RequestError` unsupported.
  private func requireBeside(_ rest: [FoundWeight], _ family: any ModelFamily, _ form: WrapperForm) throws {
    let prefixes = form == .beside ? ["model.layers."] : [form.tensor("model.")]
    for weight in rest {
      for name in weight.joined.tensors.map(\.name) {
        guard let tensor = source.tensor(name), prefixes.contains(where: { name.hasPrefix($0) }),
          !UnknownName(name).isBeside, !Layouts.isActivationScale(tensor, quantization),
          knownRule(tensor, family) == nil,
          !family.dropRules.contains(where: { rule in
            rule.prefixes.contains { name.hasPrefix(form.tensor($0)) }
          })
        else { continue }
        throw RequestError(
          .unsupported, "'\(excerpt(name))' belongs to no weight of \(family.modelType)",
          help: "a family that does not know a tensor cannot compute with it")
      }
    }
  }

  /// Why the tensors are not those of the text model: what is missing of the names that fit best.
  private func absence(_ family: any ModelFamily) -> String {
    let tries = WrapperForm.allCases.map { form in
      let own = CarryingFamily(family, wrapper: form, carrying: [])
      return (own, CheckpointDirectory.nearest(own, in: source, quantization))
    }
    guard let (own, best) = tries.max(by: { $0.1.count < $1.1.count }), best.count > 0 else {
      return "no tensor has a name that weights of \(family.modelType) have"
    }
    let absent = own.weights.map { $0.spellings[best.column] }
      .filter { Layouts.find($0, in: source, quantization) == nil }
    let more = absent.count > 1 ? ", and \(absent.count - 1) more" : ""
    return
      "'\(excerpt(absent.first?.tensor ?? ""))'\(more) of the \(own.weights.count) weights that config.json asks \(family.modelType) for is missing"
  }

  /// The text model under a prefix of the wrapper's; nil where the tensors have other names than the family's.
  /// - Throws: refusals of its weights; `RequestError` unsupported for tensors of the text model that the family does not know.
  private func wrapped(_ family: any ModelFamily) throws -> OpenedSource? {
    for form in WrapperForm.allCases {
      let own = CarryingFamily(family, wrapper: form, carrying: [])
      guard let (column, codes) = CheckpointDirectory.dialect(of: own, in: source, quantization) else {
        continue
      }
      let joined = try zip(own.weights, codes).map { spec, codes in
        try Layouts.join(CheckpointDirectory.request(spec, column), codes, in: source, quantization)
      }
      var used = joined.tensors(in: source)
      used.formUnion(droppedSet)
      let drafts = try FoundDrafts(
        family, column: column, form: form, in: source, quantization, used: used, left: { _ in false })
      used.formUnion(drafts.joined.tensors(in: source))
      let rest = try Layouts.everything(in: source, except: used, quantization)
      try requireBeside(rest, family, form)
      let names = DraftNames(config)
      let others = rest.map {
        WeightSpec($0, dialects: family.dialects.count, hasLayer: false).marked(by: names)
      }
      let carrying = CarryingFamily(
        family, wrapper: form, carrying: drafts.specs + others, draftBlocks: drafts.blocks)
      return opened(carrying, family.dialects[column], joined + drafts.joined + rest.map(\.joined))
    }
    return nil
  }
}
