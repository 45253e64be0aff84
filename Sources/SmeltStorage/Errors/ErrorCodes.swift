// Every code a file can be refused with. `Formats/errors.md` has the same list; a test compares the two.

extension ErrorCode {
  // MARK: any source

  /// A journal of another source or recipe than the one at hand, or one that plan, source and files do not bear out.
  package static let resumeMismatch = ErrorCode(
    "RESUME_MISMATCH",
    "the interrupted run had another source, recipe or program, or its journal does not match its files",
    "use the same options as before, or start over without --resume")
  /// Parts of a cluster's run that do not make a result.
  package static let unitMismatch = ErrorCode(
    "UNIT_MISMATCH",
    "the parts of a conversion by many machines are not all there, were changed, or are of different work",
    "run the tasks again whose parts are missing, with the same options; remove parts of other work")
  /// A git-LFS pointer where weights were expected.
  package static let lfsPointer = ErrorCode(
    "SRC_LFS_POINTER", "the file is a git-LFS pointer, not the weights it stands for",
    "run `git lfs pull` in the checkpoint's folder, or download the file itself")
  /// A web page or an error message where weights were expected.
  package static let notWeights = ErrorCode(
    "SRC_NOT_WEIGHTS", "the file is a web page or an error message, not weights",
    "download the file again; the server answered with a page")
  /// A directory, device or pipe where a regular file was expected.
  package static let notFile = ErrorCode(
    "SRC_NOT_FILE", "the path is not a regular file", "give the path of a regular file")
  /// Nothing at that path.
  package static let missingFile = ErrorCode(
    "SRC_MISSING", "a file or directory that is needed does not exist",
    "check the path; names are case-sensitive")
  /// The file changed while it was read.
  package static let changed = ErrorCode(
    "SRC_CHANGED", "the file's size or time changed while it was read",
    "wait until nothing writes to the source")
  /// A path that is no model.
  package static let notModel = ErrorCode(
    "SRC_NOT_MODEL", "the path holds no model",
    "give a directory with config.json and safetensors, a .gguf or an .ingot")

  // MARK: models that are fetched

  /// A server that does not let us have what is asked for.
  package static let netAccess = ErrorCode(
    "NET_ACCESS", "the server has no such repository, revision or file, or does not let this user have it",
    "check the name; for a gated or private repository accept its terms and set HF_TOKEN")
  /// A server that does not serve ranges as they are asked for.
  package static let netRange = ErrorCode(
    "NET_RANGE", "the server does not answer a request for a range of a file with that range",
    "serve the files with a server that knows ranges, such as nginx; a proxy on the way may be at fault")
  /// A listing or a name in it that cannot be.
  package static let netListing = ErrorCode(
    "NET_LISTING",
    "the hub's listing is not of the form of Formats/hub.md, or names a file outside its repository",
    "do not trust the server; check HF_ENDPOINT")
  /// Content that is not what the hub's hash names.
  package static let netHash = ErrorCode(
    "NET_HASH", "a fetched file does not have the SHA-256 that the hub states",
    "fetch it again; if it stays so, report it to the repository's owner")

  /// A result that is one of its sources.
  package static let outputAliasesInput = ErrorCode(
    "OUT_ALIASES_INPUT", "the result is one of the source's files", "choose another name for the result")

  // MARK: safetensors

  /// A file shorter than its header says.
  package static let stTruncated = ErrorCode(
    "ST_TRUNCATED", "the file is shorter than it says", "the download was cut short; fetch the file again")
  /// An impossible header length.
  package static let stHeaderSize = ErrorCode(
    "ST_HEADER_SIZE", "the header length is zero, over 100,000,000 or beyond the file",
    "the file is not a safetensors file or is damaged; fetch it again")
  /// A header of zero bytes.
  package static let stZeroPage = ErrorCode(
    "ST_ZERO_PAGE", "the header is all zero bytes", "the download was interrupted; fetch the file again")
  /// A header that is not a JSON object.
  package static let stHeaderJSON = ErrorCode(
    "ST_HEADER_JSON", "the header is not a UTF-8 JSON object of the expected form", "fetch the file again")
  /// A header too deep or too large.
  package static let stHeaderLimit = ErrorCode(
    "ST_HEADER_LIMIT", "the header nests deeper than 8 levels or names more than 1,000,000 tensors",
    "no real checkpoint does this; do not trust the file")
  /// A name that appears twice.
  package static let stDuplicate = ErrorCode(
    "ST_DUPLICATE", "a key appears twice in the header",
    "two readers could see two models; do not trust the file")
  /// A dtype that the format does not have.
  package static let stDtype = ErrorCode(
    "ST_DTYPE", "the dtype is unknown", "a newer Smelt may know it; see Formats/safetensors.md for the list")
  /// A number that is not a size.
  package static let stNumber = ErrorCode(
    "ST_NUMBER", "a size or offset is negative, fractional or above 2^53",
    "the header is damaged; fetch the file again")
  /// Too many dimensions.
  package static let stRank = ErrorCode(
    "ST_RANK", "a tensor has more than 8 dimensions", "do not trust the file")
  /// A size that does not fit.
  package static let stOverflow = ErrorCode(
    "ST_OVERFLOW", "a shape's product does not fit in 63 bits", "do not trust the file")
  /// A tensor that ends within a byte.
  package static let stSubbyte = ErrorCode(
    "ST_SUBBYTE", "a tensor's bits are not a whole number of bytes", "the shape or the dtype is wrong")
  /// Offsets outside the data.
  package static let stOffsets = ErrorCode(
    "ST_OFFSETS", "a tensor's offsets are reversed or beyond the data",
    "the header is damaged; fetch the file again")
  /// Offsets that disagree with the shape.
  package static let stSizeMismatch = ErrorCode(
    "ST_SIZE_MISMATCH", "a tensor's bytes are not what its shape and dtype need",
    "the header is damaged; fetch the file again")
  /// Holes or overlaps.
  package static let stLayout = ErrorCode(
    "ST_LAYOUT", "tensors overlap, leave a hole, or do not start at 0",
    "save the file again with a current safetensors library")
  /// Bytes nobody names.
  package static let stTrailing = ErrorCode(
    "ST_TRAILING", "bytes follow the last tensor", "the file was appended to; fetch it again")
  /// Metadata that is no string.
  package static let stMetadata = ErrorCode(
    "ST_METADATA", "__metadata__ is not a map from strings to strings", "save the file again")
  /// A name that cannot be a name.
  package static let stName = ErrorCode(
    "ST_NAME", "a tensor's name is empty, over 1,000 bytes, or holds control or bidirectional characters",
    "do not trust the file")

  // MARK: index and directory

  /// A shard's path that leaves the directory.
  package static let idxPath = ErrorCode(
    "IDX_PATH", "the index names a shard outside its own directory",
    "a shard is a bare file name; do not trust the index")
  /// A link that leaves the repository.
  package static let idxLink = ErrorCode(
    "IDX_LINK", "a file of the checkpoint is a symbolic link that leaves the repository",
    "only the hub cache's own blob links are followed")
  /// Shards that are not there.
  package static let idxMissing = ErrorCode(
    "IDX_MISSING", "shards named by the index are not there", "download the missing shards")
  /// Index and shards disagree.
  package static let idxMismatch = ErrorCode(
    "IDX_MISMATCH", "index and shards do not name the same tensors",
    "index and shards come from different revisions; fetch both again")
  /// A tensor in two shards.
  package static let idxDuplicate = ErrorCode(
    "IDX_DUPLICATE", "a tensor is in two shards, or a key appears twice in the index",
    "remove the stray shard, or fetch the index again")
  /// An index that is no index.
  package static let idxJSON = ErrorCode(
    "IDX_JSON", "the index is not a JSON object with a weight_map of names", "fetch the index again")
  /// Index total that disagrees (a warning).
  package static let idxTotal = ErrorCode(
    "IDX_TOTAL", "the index's total_size is not the sum of the tensors",
    "harmless; some writers count parameters instead")

  // MARK: GGUF

  /// Bytes that do not begin a little-endian GGUF file.
  package static let ggMagic = ErrorCode(
    "GG_MAGIC", "the file does not begin as a little-endian GGUF file",
    "big-endian files are not read; if it should be GGUF, fetch it again")
  /// A version that is not read.
  package static let ggVersion = ErrorCode(
    "GG_VERSION", "the GGUF version is not 2 or 3",
    "convert the model again with a current llama.cpp")
  /// An impossible number of tensors or keys.
  package static let ggCount = ErrorCode(
    "GG_COUNT", "the number of tensors or keys is over the limit or more than the file can hold",
    "the header is damaged; fetch the file again")
  /// A string that cannot be.
  package static let ggString = ErrorCode(
    "GG_STRING",
    "a key or string is empty, too long, beyond the file, not UTF-8, or a key holds control characters",
    "the header is damaged; fetch the file again")
  /// A value type that the format does not have.
  package static let ggType = ErrorCode(
    "GG_TYPE", "a metadata value is of an unknown type or an array of arrays",
    "the header is damaged, or of a newer GGUF than Formats/gguf.md knows")
  /// An array larger than the file.
  package static let ggArray = ErrorCode(
    "GG_ARRAY", "a metadata array has more elements than the file can hold",
    "the header is damaged; fetch the file again")
  /// A key or tensor that appears twice.
  package static let ggDuplicate = ErrorCode(
    "GG_DUPLICATE", "a key or a tensor's name appears twice",
    "two readers could see two models; do not trust the file")
  /// An invalid alignment.
  package static let ggAlign = ErrorCode(
    "GG_ALIGN", "general.alignment is not a u32 that is a power of two from 8 to 65,536",
    "do not trust the file")
  /// A name that cannot be a name.
  package static let ggName = ErrorCode(
    "GG_NAME",
    "a tensor's name is empty, over 63 bytes, not UTF-8, or holds control or bidirectional characters",
    "do not trust the file")
  /// Dimensions that cannot be.
  package static let ggDims = ErrorCode(
    "GG_DIMS", "a tensor has no or more than 4 dimensions, one below 1, or a size over 63 bits",
    "do not trust the file")
  /// Rows that are not a whole number of blocks.
  package static let ggBlock = ErrorCode(
    "GG_BLOCK", "a tensor's rows are not a whole number of its type's blocks",
    "the header is damaged; fetch the file again")
  /// A tensor type not in use.
  package static let ggTensorType = ErrorCode(
    "GG_TENSOR_TYPE", "a tensor's type is unknown or was removed from ggml",
    "convert the model again with a current llama.cpp; Formats/gguf.md lists the types")
  /// Offsets that do not follow each other.
  package static let ggOffset = ErrorCode(
    "GG_OFFSET",
    "a tensor's offset is not aligned, leaves a hole or overflows, or bytes follow the last tensor",
    "the header is damaged; fetch the file again")
  /// Tensors that share bytes.
  package static let ggOverlap = ErrorCode(
    "GG_OVERLAP", "a tensor begins before the one before it ends",
    "do not trust the file")
  /// A file shorter than its header says.
  package static let ggTruncated = ErrorCode(
    "GG_TRUNCATED", "the GGUF file is shorter than it says",
    "the download was cut short; fetch the file again")
  /// Parts that do not belong together.
  package static let ggSplit = ErrorCode(
    "GG_SPLIT", "the parts of a split GGUF are missing, disagree, or were joined by appending",
    "fetch all parts again and open the first")
  /// A bool that is neither.
  package static let ggBool = ErrorCode(
    "GG_BOOL", "a metadata bool is neither 0 nor 1",
    "the header is damaged; fetch the file again")

  // MARK: quantized content

  /// A quantized weight without its scale.
  package static let scaleMissing = ErrorCode(
    "Q_SCALE_MISSING", "a quantized weight has no scale tensor",
    "a shard is absent or the upload is incomplete")
  /// A scale of the wrong shape.
  package static let scaleShape = ErrorCode(
    "Q_SCALE_SHAPE", "a scale tensor's shape or dtype does not fit its weight",
    "compare weight_block_size in config.json with the tensors")
  /// A scale that is not a positive finite number.
  package static let scaleValue = ErrorCode(
    "Q_SCALE_VALUE", "a scale is NaN, infinite, zero or negative",
    "the weight is damaged or was calibrated on an expert that saw no token")
  /// A code that is not a number.
  package static let codeNaN = ErrorCode(
    "Q_CODE_NAN", "a weight holds a NaN or infinite code", "the shard is damaged; fetch it again")
  /// A packed width that does not fit.
  package static let packed = ErrorCode(
    "Q_PACK", "a packed 4-bit weight's width is not half its columns",
    "the shard is damaged or of another layout")
  /// A block of numbers with an invalid scale.
  package static let block = ErrorCode(
    "Q_BLOCK", "a block's scale is NaN or infinite, or makes a number infinite",
    "the weight is damaged; fetch it again")
  /// Config and tensors contradict each other.
  package static let quantConfig = ErrorCode(
    "Q_CONFIG", "quantization_config contradicts the tensors", "the config belongs to another revision")
  /// Experts of one layer stored in different ways.
  package static let mixedExperts = ErrorCode(
    "Q_MIXED_EXPERTS", "an expert is stored in another encoding than its siblings",
    "the upload mixes two conversions")

  // MARK: config, tokenizer, architecture

  /// A configuration value out of range.
  package static let configValue = ErrorCode(
    "CFG_VALUE", "a value in config.json is missing, of the wrong type or out of range",
    "compare config.json with the publisher's")
  /// A configuration that is no JSON.
  package static let configJSON = ErrorCode(
    "CFG_JSON", "config.json is not a JSON object", "fetch config.json again")
  /// Shapes that disagree with the configuration.
  package static let configShape = ErrorCode(
    "CFG_SHAPE", "a tensor's shape is not what config.json says",
    "config.json and weights come from different models")
  /// Weights the architecture needs and the checkpoint lacks.
  package static let incomplete = ErrorCode(
    "ARCH_INCOMPLETE", "weights that the architecture needs are missing",
    "a shard is absent or the upload is incomplete")
  /// A tensor that no rule explains.
  package static let unknownTensor = ErrorCode(
    "ARCH_UNKNOWN_TENSOR", "a tensor that no rule explains",
    "it may be a new part of the architecture, without which the numbers would be wrong: report it")
  /// Weights that are missing beside tensors of other names.
  package static let otherNames = ErrorCode(
    "ARCH_OTHER_NAMES",
    "weights that the architecture needs are missing, and tensors are there that it does not know",
    "the names are another program's, or of another version: use the checkpoint as its makers published it")
  /// A tokenizer that breaks its rule.
  package static let tokenizerValue = ErrorCode(
    "TOK_VALUE", "the tokenizer holds an impossible value", "fetch tokenizer.json again")
  /// A tokenizer that is no JSON.
  package static let tokenizerJSON = ErrorCode(
    "TOK_JSON", "tokenizer.json is not a JSON object of the expected form", "fetch tokenizer.json again")

  // MARK: ingot

  /// A header that is not an ingot's.
  package static let ingotHeader = ErrorCode(
    "C_HEADER", "the ingot's header is wrong: magic, version, flags or checksum",
    "the file is not an ingot, or was never finished")
  /// An index that breaks its rule.
  package static let ingotIndex = ErrorCode(
    "C_INDEX", "the ingot's index is damaged: an offset, length or count is impossible", "copy the file again"
  )
  /// A declared size out of proportion.
  package static let ingotBomb = ErrorCode(
    "C_BOMB", "a frame declares more content than its weight can hold", "do not trust the file")
  /// A zstd frame that breaks the container's rules.
  package static let ingotFrame = ErrorCode(
    "C_FRAME", "a zstd frame is damaged or not of the form ingots hold", "copy the file again")
  /// A checksum that does not match.
  package static let ingotChecksum = ErrorCode(
    "C_CHECKSUM", "stored bytes do not match their checksum",
    "the file was damaged after it was written; copy it again")

  /// Content that is not what its hash names.
  package static let ingotHash = ErrorCode(
    "C_HASH", "content does not have the hash that the ingot says", "copy the file again, or convert again")
  /// Parts of an ingot that are not all there, or do not belong together.
  package static let ingotSplit = ErrorCode(
    "C_SPLIT", "a part of the ingot is missing or belongs to another ingot",
    "all parts of one conversion must lie in one folder under their own names")

  // MARK: statistics, recipes, token files

  /// An invalid statistics file.
  package static let statistics = ErrorCode(
    "STAT_FORMAT", "the statistics file is not of the form of Formats/statistics.md",
    "make it again with `smelt calibrate`")
  /// Statistics of another model.
  package static let statisticsMismatch = ErrorCode(
    "STAT_MISMATCH", "the statistics belong to another model", "calibrate this model")
  /// Experts that calibration cannot speak for.
  package static let starvedExperts = ErrorCode(
    "CAL_STARVED", "experts got fewer calibration tokens than --min-tokens, and --policy refuse allows none",
    "give more or other text, or another --policy")
  /// An invalid recipe.
  package static let recipe = ErrorCode(
    "RECIPE_FORMAT", "the recipe file is not of the form of Formats/recipe.md", "see Formats/recipe.md")
  /// An invalid token file.
  package static let tokens = ErrorCode(
    "TOKENS_FORMAT", "the token file is not {\"sequences\": [[ids…], …]} with ids of the vocabulary",
    "write one list of token ids per sequence")
  /// A file that is not a report of `verify`.
  package static let report = ErrorCode(
    "REPORT_FORMAT", "the file is not a report of `verify`, or of another version",
    "give the file that `smelt verify --json FILE` wrote; verify again where an earlier version wrote it")
  /// An invalid text.
  package static let text = ErrorCode(
    "TEXT_FORMAT", "the text is not UTF-8 or is too short for one window",
    "give a longer UTF-8 text, or a smaller --context")

  /// All codes, in the order of `Formats/errors.md`.
  package static let all: [ErrorCode] = [
    lfsPointer, notWeights, notFile, missingFile, changed, notModel, netAccess, netRange, netListing,
    netHash, outputAliasesInput, resumeMismatch, unitMismatch,
    stTruncated, stHeaderSize, stZeroPage, stHeaderJSON, stHeaderLimit, stDuplicate, stDtype, stNumber,
    stRank,
    stOverflow, stSubbyte, stOffsets, stSizeMismatch, stLayout, stTrailing, stMetadata, stName,
    idxPath, idxLink, idxMissing, idxMismatch, idxDuplicate, idxJSON, idxTotal,
    ggMagic, ggVersion, ggCount, ggString, ggType, ggArray, ggDuplicate, ggAlign, ggName,
    ggDims, ggBlock, ggTensorType, ggOffset, ggOverlap, ggTruncated, ggSplit, ggBool,
    scaleMissing, scaleShape, scaleValue, codeNaN, packed, block, quantConfig, mixedExperts,
    configValue, configJSON, configShape, incomplete, unknownTensor, otherNames, tokenizerValue,
    tokenizerJSON,
    ingotHeader, ingotIndex, ingotBomb, ingotFrame, ingotChecksum, ingotHash, ingotSplit,
    statistics, statisticsMismatch, starvedExperts, recipe, tokens, report, text,
  ]
}
