// Whether a rule's condition holds, and where. One function for each kind of condition.

import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

extension EngineRule {
  /// Whether the rule is about a model like this at all.
  private func concerns(_ view: EngineView) -> Bool {
    if !families.isEmpty, view.types.isDisjoint(with: families) { return false }
    guard !methods.isEmpty else { return true }
    let method = view.quantization.method.map { $0.hasPrefix("modelopt") ? "modelopt" : $0 } ?? "none"
    return methods.contains(method)
  }

  /// Whether it is about a weight.
  func concerns(_ weight: EngineWeight) -> Bool { kinds.isEmpty || kinds.contains(weight.kind) }

  /// Where the rule speaks; empty where it does not.
  /// - Throws: refusals of weights whose numbers are looked at.
  func cases(_ view: EngineView, _ found: [EngineFound?]) throws -> [EngineCase] {
    guard concerns(view), condition.concernsFiles || view.model.containerName != "gguf" else { return [] }
    switch condition {
    case .container(let names):
      return names.contains(view.model.containerName)
        ? [] : [EngineCase(subject: view.model.path, found: "is \(view.model.containerName)")]
    case .configuration:
      return view.hasConfig ? [] : [EngineCase(subject: "config.json", found: "is not there")]
    case .architecture: return EngineArchitectures.cases(view, borrowed: false)
    case .borrowed: return EngineArchitectures.cases(view, borrowed: true)
    case .method(let names):
      guard let method = view.quantization.method,
        !names.contains(method.hasPrefix("modelopt") ? "modelopt" : method)
      else { return [] }
      // A rule on kinds is about a family's experts.
      guard kinds.isEmpty || view.weights.contains(where: { $0.isExpert && concerns($0) }) else { return [] }
      return [EngineCase(subject: "quant_method", found: "is '\(excerpt(method))'")]
    case .format(let names, let scope):
      guard let format = view.quantization.format, !names.contains(format),
        view.weights.contains(where: { scope.holds($0) && concerns($0) })
      else { return [] }
      return [EngineCase(subject: "format", found: "is '\(excerpt(format))'")]
    case .parts(let scope): return partCases(view, scope)
    case .oneScheme(let scope): return schemeCases(view, scope, found)
    case .number(let scope, let taken): return try numberCases(view, scope, taken)
    case .declared:
      return declaredCases(view.weights, found) {
        $0.isExpert ? view.expertsModule(of: $0) ?? $0.module : $0.module
      }
    case .plainRoles:
      return each(view) { weight in
        let roles: [Role] = [.router, .norm, .bias, .selectionBias, .sink, .hyperConnection, .embedding]
        let isLookedUp = weight.spec.role == .router && EngineNames.looksUpRouters(engine, view.types)
        return roles.contains(weight.spec.role) && weight.kind != .plain && !isLookedUp
          ? "is \(weight.kind.rawValue), a \(weight.spec.role.rawValue)" : nil
      }
    case .shardColumns, .shardRows, .expertInputs, .expertHidden, .shards: return shapeCases(view)
    case .groups(let scope, let lengths):
      return each(view, scope) { weight in
        let length = weight.columnsPerScale ?? -1
        return lengths.contains(length) ? nil : "has groups of \(length)"
      }
    case .groupsWithFP8(let scope, let lengths, let multiple):
      return groupCases(view, scope, found, lengths, multiple)
    case .activations(let scope, let words):
      return declared(view, scope, found) { scheme in
        let word = scheme.activations?.word ?? "none"
        return words.contains(word) ? nil : "activations are declared '\(word)'"
      }
    case .stored(let scope):
      var seen: Set<String> = []
      return view.weights.compactMap { weight in
        guard concerns(weight), scope.holds(weight) else { return nil }
        let subject = weight.isExpert ? view.expertsModule(of: weight) ?? weight.module : weight.module
        guard seen.insert(subject).inserted else { return nil }
        return EngineCase(subject: subject, found: "is \(signature(weight))")
      }
    case .scalesNamed(let scope, let name):
      var seen: Set<String> = []
      return (view.weights + view.drafts).compactMap { weight in
        guard concerns(weight), scope.holds(weight), !weight.tensors.contains(where: { $0.hasSuffix(name) }),
          let scale = weight.tensors.dropFirst().first?.split(separator: ".").last
        else { return nil }
        let subject = weight.isExpert ? view.expertsModule(of: weight) ?? weight.module : weight.module
        guard seen.insert(subject).inserted else { return nil }
        return EngineCase(subject: subject, found: "has its scales as '\(excerpt(String(scale)))'")
      }
    case .zeroPoints(let scope): return each(view, scope) { $0.hasZeroPoints ? "has zero points" : nil }
    case .indexed:
      return each(view) { $0.isIndexed ? "has a table of groups (actorder)" : nil }
    case .cache(let strategies): return cacheCases(view, strategies)
    case .drafts:
      return view.drafts.filter { $0.kind != .plain && concerns($0) }.map {
        EngineCase(subject: $0.module, found: "is \($0.kind.rawValue)")
      }
    case .declaredDrafts:
      return declaredCases(view.drafts, view.foundDrafts()) { $0.module }
    case .stacked:
      return each(view, .experts) { $0.isStacked ? "is one of a stack, and \($0.kind.rawValue)" : nil }
    case .scaleType: return try scaleCases(view)
    case .expertType:
      guard view.text["expert_dtype"] == nil, view.weights.contains(where: { $0.isExpert && concerns($0) })
      else { return [] }
      return [EngineCase(subject: "expert_dtype", found: "is not there, and experts are not FP4")]
    case .types(let names), .fileTypes(let names):
      if case .fileTypes = condition, view.model.containerName != "gguf" { return [] }
      return view.model.source.tensors.filter { !names.contains($0.type) }.map {
        EngineCase(subject: $0.name, found: "is \($0.type)")
      }
    case .file(let causes): return try EngineFile.cases(view.model, causes)
    case .computes: return try EngineFile.differences(view.model)
    }
  }

  /// The weights of a scope that the rule is about and that a question finds something about.
  func each(
    _ view: EngineView, _ scope: EngineScope = .all, _ ask: (EngineWeight) -> String?
  ) -> [EngineCase] {
    view.weights.compactMap { weight in
      guard concerns(weight), scope.holds(weight), let found = ask(weight) else { return nil }
      return EngineCase(subject: weight.module, found: found)
    }
  }

  /// The same of the schemes that the engine finds; a layer's experts are one case.
  private func declared(
    _ view: EngineView, _ scope: EngineScope, _ found: [EngineFound?], _ ask: (EngineScheme) -> String?
  ) -> [EngineCase] {
    var seen: Set<String> = []
    return view.weights.enumerated().compactMap { place, weight in
      guard concerns(weight), scope.holds(weight), case .scheme(let scheme) = found[place],
        let answer = ask(scheme)
      else { return nil }
      let subject = weight.isExpert ? view.expertsModule([place]) ?? weight.module : weight.module
      return seen.insert(subject).inserted ? EngineCase(subject: subject, found: answer) : nil
    }
  }

  // MARK: modules of several weights

  /// How a weight is stored, as a rule compares it.
  private func signature(_ weight: EngineWeight) -> String {
    let group =
      weight.kind == .packed || weight.kind == .int4
      ? weight.columnsPerScale.map { " of \($0)" } ?? " by channel" : ""
    let bits =
      weight.kind == .int4
      ? "" : (weight.encoding as? GroupedIntegers).map { "\($0.width.rawValue)-bit " } ?? ""
    return bits + weight.kind.rawValue + group
  }

  private func partCases(_ view: EngineView, _ scope: EngineScope) -> [EngineCase] {
    func differing(_ subject: String, _ places: [Int]) -> EngineCase? {
      var signatures: [(text: String, module: String)] = []
      for place in places {
        let text = signature(view.weights[place])
        if !signatures.contains(where: { $0.text == text }) {
          signatures.append((text, view.weights[place].module))
        }
      }
      guard signatures.count > 1, places.contains(where: { concerns(view.weights[$0]) }) else { return nil }
      return EngineCase(
        subject: subject,
        found: signatures.prefix(3).map { "'\($0.module)' is \($0.text)" }.joined(separator: ", "))
    }
    var cases: [EngineCase] = []
    if scope != .linear {
      cases += view.experts.compactMap { layer, places in
        differing(view.expertsModule(places) ?? "layer \(layer)", places)
      }
    }
    if scope != .experts {
      cases += view.matrices.filter { !$0.isExpert && EngineNames.fuses($0.name, engine) }
        .compactMap { differing($0.name, $0.parts) }
    }
    return cases
  }

  private func schemeCases(_ view: EngineView, _ scope: EngineScope, _ found: [EngineFound?]) -> [EngineCase]
  {
    var first: (text: String, module: String)?
    var seen: Set<String> = []
    return view.weights.enumerated().compactMap { place, weight in
      guard scope.holds(weight), weight.kind != .plain, concerns(weight) else { return nil }
      let text = signature(weight)
      guard let known = first else {
        first = (text, weight.module)
        return nil
      }
      guard text != known.text, seen.insert(text).inserted else { return nil }
      return EngineCase(subject: weight.module, found: "is \(text), '\(known.module)' \(known.text)")
    }
  }

  private func numberCases(_ view: EngineView, _ scope: EngineScope, _ taken: FusedNumber) throws
    -> [EngineCase]
  {
    try view.matrices.compactMap { matrix in
      guard matrix.isExpert == (scope == .experts) || scope == .all, EngineNames.fuses(matrix.name, engine),
        matrix.parts.allSatisfy({ concerns(view.weights[$0]) })
      else { return nil }
      let numbers = try matrix.parts.compactMap { try view.number(view.weights[$0]) }
      guard numbers.count == matrix.parts.count, let low = numbers.min(), let high = numbers.max(),
        low != high
      else { return nil }
      let kept = taken == .first ? numbers[0] : high
      let factors = numbers.map { Double(max($0 / kept, kept / $0)) }
      let subject = matrix.isExpert ? view.weights[matrix.parts[0]].module : matrix.name
      return EngineCase(
        subject: subject,
        found:
          "its parts have \(number(low)) to \(number(high)), "
          + "a factor of up to \(fixed(factors.max() ?? 1, 3))"
      )
    }
  }

  private func number(_ value: Float) -> String { "\(value)" }

  private func declaredCases(
    _ weights: [EngineWeight], _ found: [EngineFound?], subject: (EngineWeight) -> String
  ) -> [EngineCase] {
    var seen: Set<String> = []
    return weights.enumerated().compactMap { place, weight in
      guard let answer = found[place] else { return nil }
      let isRight: Bool
      switch answer {
      case .plain: isRight = weight.kind == .plain
      case .scheme(let scheme): isRight = scheme.fits(weight)
      case .mixed: isRight = false
      }
      guard !isRight else { return nil }
      let subject = subject(weight)
      guard seen.insert(subject).inserted else { return nil }
      return EngineCase(
        subject: subject, found: "is \(signature(weight)), and the engine finds \(answer.text)")
    }
  }

  private func cacheCases(_ view: EngineView, _ strategies: [String]) -> [EngineCase] {
    guard let cache = view.quantization.json["kv_cache_scheme"], cache.object != nil else { return [] }
    let (bits, type) = (cache["num_bits"]?.integer ?? 0, cache["type"]?.string ?? "")
    let strategy = cache["strategy"]?.string ?? ""
    guard bits != 8 || type != "float" || !strategies.contains(strategy) || cache["symmetric"]?.bool == false
    else { return [] }
    return [
      EngineCase(subject: "kv_cache_scheme", found: "is \(bits)-bit \(excerpt(type)) by \(excerpt(strategy))")
    ]
  }

  private func scaleCases(_ view: EngineView) throws -> [EngineCase] {
    let spelled =
      (view.text["dtype"] ?? view.text["torch_dtype"] ?? view.config["torch_dtype"])?.string ?? "bfloat16"
    let wanted: DType = ["float16": .f16, "float32": .f32][spelled.replacing("torch.", with: "")] ?? .bf16
    return each(view) { weight in
      guard
        let scales = view.model.storedParts(of: weight.spec.name).first(where: { $0.name == .scales }),
        scales.dtype != wanted, wanted != .f32
      else { return nil }
      return "its scales are \(scales.dtype.rawValue), the model \(spelled)"
    }
  }
}
