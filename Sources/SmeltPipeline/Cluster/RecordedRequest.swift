// What was asked of a conversion, as its parts keep it: whoever joins them need not say it again.

package import SmeltStorage

extension ConversionRequest {
  /// The request as a part of a cluster's run keeps it; paths from the root, so that they hold wherever the parts are joined.
  /// - Parameters:
  ///   - model: the source's path.
  ///   - container: the container of the result.
  package func recorded(
    model: String, container: String, allowDrop: [String], isStrict: Bool, unitBytes: Int?
  ) -> JSON {
    func path(_ path: String?) -> JSON { JSON(path.map { absolutePath($0) }) }
    func number(_ number: Int?) -> JSON { number.map { JSON($0) } ?? JSON(.null) }
    return [
      "model": path(model), "allow_drop": JSON(allowDrop.map { JSON($0) }), "scheme": JSON(scheme),
      "recipe": path(recipePath), "statistics": path(statisticsPath), "observer": JSON(observer),
      "mtp": JSON(drafts), "exact_only": JSON(exactOnly), "strict": JSON(isStrict),
      "compression": JSON(compression), "to": JSON(container), "split_max_size": number(splitMaxSize),
      "max_shard_size": number(maxShardSize), "max_part_size": number(maxPartSize),
      "unit_size": number(unitBytes), "layout": JSON(engines.layout),
      "activations": JSON(engines.activations), "kv_cache": JSON(engines.cache),
    ]
  }
}

/// A request that parts kept.
struct RecordedRequest {
  let model: String
  let allowDrop: [String]
  let conversion: ConversionRequest
  let isStrict: Bool
  let unitBytes: Int?

  /// Reads it; what lies elsewhere by now is told.
  /// - Throws: `UNIT_MISMATCH`.
  init(_ json: JSON, file: String, _ asked: JoinOptions) throws(FormatError) {
    guard let model = json["model"]?.string, let drafts = json["mtp"]?.string,
      let container = json["to"]?.string
    else {
      throw FormatError(.unitMismatch, file: file, "does not say what was asked for")
    }
    self.model = asked.source ?? model
    allowDrop = (json["allow_drop"]?.array ?? []).compactMap(\.string)
    isStrict = json["strict"]?.bool ?? false
    unitBytes = json["unit_size"]?.integer
    conversion = ConversionRequest(
      scheme: json["scheme"]?.string, recipePath: asked.recipe ?? json["recipe"]?.string,
      statisticsPath: asked.statistics ?? json["statistics"]?.string, observer: json["observer"]?.string,
      drafts: drafts, exactOnly: json["exact_only"]?.bool ?? false,
      compression: json["compression"]?.string, kind: container, overwrite: asked.overwrite,
      splitMaxSize: json["split_max_size"]?.integer, maxShardSize: json["max_shard_size"]?.integer,
      maxPartSize: json["max_part_size"]?.integer,
      engines: EngineWords(
        layout: json["layout"]?.string, activations: json["activations"]?.string,
        cache: json["kv_cache"]?.string))
  }
}
