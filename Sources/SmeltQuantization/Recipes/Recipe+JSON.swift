// Recipes as files. Formats/recipe.md, section 2.

package import SmeltModels
package import SmeltStorage

extension Recipe {
  /// The `schema` of a recipe file.
  package static let schema = "smelt.recipe/1"

  /// The most rules a recipe may have.
  package static let mostRules = 10_000

  /// Reads a recipe file's bytes.
  /// - Throws: `RECIPE_FORMAT` naming the key and its byte.
  package init(_ bytes: Bytes, file: String? = nil) throws(FormatError) {
    let json: JSON
    do {
      json = try JSON.scan(bytes, limits: JSONLimits(depth: 8, values: 16 * Recipe.mostRules))
    } catch {
      throw FormatError(.recipe, file: file, offset: error.offset, error.problem)
    }
    try self.init(json, file: file)
  }

  /// Reads a recipe.
  /// - Throws: `RECIPE_FORMAT` naming the key and its byte.
  package init(_ json: JSON, file: String? = nil) throws(FormatError) {
    let reader = RecipeReader(file: file)
    let top = try reader.object(
      json, "the recipe", keys: ["schema", "default", "observer", "rules", "saved"])
    guard let schema = top["schema"] else {
      throw reader.refusal(json, "schema", "is missing, expected \"\(Recipe.schema)\"")
    }
    guard schema.string == Recipe.schema else {
      throw reader.refusal(
        schema, "schema",
        "is \(schema.string.map { "\"\($0)\"" } ?? schema.kind), expected \"\(Recipe.schema)\"")
    }
    let word = try top["default"].map { value throws(FormatError) in try reader.scheme(value, "default") }
    self.init(
      word?.scheme ?? Keep(),
      observer: try top["observer"].map { value throws(FormatError) in
        try reader.observerOrAuto(value, "observer")
      } ?? nil)
    self.file = file
    defaultActivations = word?.activations
    guard let list = top["rules"] else { return }
    guard let entries = list.array else {
      throw reader.refusal(list, "rules", "is \(list.kind), expected a list")
    }
    guard entries.count <= Recipe.mostRules else {
      throw reader.refusal(list, "rules", "has \(entries.count) rules, expected at most \(Recipe.mostRules)")
    }
    for (index, entry) in entries.enumerated() { rules.append(try reader.rule(entry, "rules[\(index)]")) }
  }

  /// The recipe as a file holds it, names canonical.
  package var json: JSON {
    JSON(members: [
      ("schema", JSON(Recipe.schema)), ("default", JSON(SchemeWord(defaultScheme, defaultActivations).name)),
      ("observer", JSON(observer?.description ?? Observer.auto)),
      (
        "rules",
        JSON(
          rules.flatMap { rule in
            let matches =
              switch rule.match {
              case .role(let role): [("role", role.rawValue)]
              case .name(let glob): [("name", glob)]
              case .names(let names, _): names.sorted().map { ("name", $0) }
              }
            let observer = rule.observer.map { [("observer", JSON($0.description))] } ?? []
            return matches.map {
              JSON(members: [($0.0, JSON($0.1)), ("scheme", JSON(rule.word.name))] + observer)
            }
          })
      ),
    ])
  }
}

extension Recipe {
  /// The recipe that a result records, as it was carried out.
  ///
  /// Only the recipe of a mixture names tensors that no weight is called by, those of a weight in several; all of its rules are such names.
  /// - Parameter specs: the source's weights.
  package func recorded(for specs: [WeightSpec]) -> Recipe {
    func isPlain(_ glob: String) -> Bool { !glob.utf8.contains { "*?#".utf8.contains($0) } }
    let isMixture = rules.contains { rule in
      guard case .name(let glob) = rule.match, isPlain(glob) else { return false }
      return !specs.contains { rule.match.covers($0) }
    }
    guard isMixture else { return self }
    var recipe = self
    recipe.rules = rules.map { rule in
      guard case .name(let name) = rule.match, isPlain(name) else { return rule }
      return Rule(
        .names([name], of: "recorded"), rule.word, observer: rule.observer, offset: rule.offset)
    }
    return recipe
  }

  /// Whether a scheme of it is meant for a coder.
  package var isEntropyCoded: Bool {
    defaultScheme.isEntropyCoded || rules.contains { $0.scheme.isEntropyCoded }
  }
}

/// Reads pieces of a recipe; every refusal names the key and its byte.
private struct RecipeReader {
  let file: String?

  func refusal(_ json: JSON, _ key: String, _ problem: String, help: String? = nil) -> FormatError {
    FormatError(.recipe, file: file, subject: key, offset: json.offset, problem, help: help)
  }

  func object(_ json: JSON, _ key: String, keys: [String]) throws(FormatError) -> JSONObject {
    guard let object = json.object else { throw refusal(json, key, "is \(json.kind), expected an object") }
    for (found, value) in zip(object.keys, object.values) where !keys.contains(found) {
      let near = nearestName(found, among: keys).map { "did you mean \($0)? " } ?? ""
      throw refusal(
        value, key == "the recipe" ? found : "\(key).\(found)", "is an unknown key",
        help: near + "known: " + keys.joined(separator: ", "))
    }
    return object
  }

  func text(_ json: JSON, _ key: String) throws(FormatError) -> String {
    guard let text = json.string, !text.isEmpty else {
      throw refusal(json, key, "is \(json.string == nil ? json.kind : "empty"), expected a name")
    }
    return text
  }

  func scheme(_ json: JSON, _ key: String) throws(FormatError) -> SchemeWord {
    try named(json, key) { try SchemeWord($0) }
  }

  func observer(_ json: JSON, _ key: String) throws(FormatError) -> Observer {
    try named(json, key) { try Observer.named($0) }
  }

  func observerOrAuto(_ json: JSON, _ key: String) throws(FormatError) -> Observer? {
    try named(json, key) { try Observer.orAuto($0) }
  }

  private func named<T>(_ json: JSON, _ key: String, _ find: (String) throws -> T) throws(FormatError) -> T {
    let name = try text(json, key)
    do { return try find(name) } catch {
      let request = error as? RequestError
      throw refusal(json, key, request?.problem ?? "'\(name)' is unknown", help: request?.help)
    }
  }

  func rule(_ json: JSON, _ key: String) throws(FormatError) -> Recipe.Rule {
    let object = try object(json, key, keys: ["role", "name", "scheme", "observer"])
    guard let scheme = object["scheme"] else { throw refusal(json, key, "has no scheme") }
    let match: Recipe.Match
    switch (object["role"], object["name"]) {
    case (.some(let role), nil):
      let name = try text(role, "\(key).role")
      guard let found = Role(rawValue: name) else {
        let error = unknownName(name, kind: "role", among: Role.allCases.map(\.rawValue))
        throw refusal(role, "\(key).role", error.problem, help: error.help)
      }
      match = .role(found)
    case (nil, .some(let glob)): match = .name(try text(glob, "\(key).name"))
    default:
      throw refusal(
        json, key, "has \(object["role"] == nil ? "neither" : "both") role and name, expected one")
    }
    return Recipe.Rule(
      match, try self.scheme(scheme, "\(key).scheme"),
      observer: try object["observer"].map { value throws(FormatError) in
        try observer(value, "\(key).observer")
      }, offset: json.offset)
  }
}
