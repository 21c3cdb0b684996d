defmodule Emily.Artifact.Keyring do
  @moduledoc """
  The public keys that sign Emily's releases, each with the versions that it signs.

  `release/keys.json` is the list, which ships in the package and is embedded when this module is
  compiled. A key signs versions `from` its first one on and `before` the first one that it no longer
  signs, as `Version` compares them, so that a key that is replaced stays good for what it has
  signed. A key that is `retired`, for the reason given, is good for nothing. minisign's signatures
  say which key made them.
  """

  alias Emily.Artifact.{NoReleaseKeyError, Signature, SignatureError}

  defmodule Key do
    @moduledoc "A public key, the versions that it signs, and why it is retired, if it is."

    alias Emily.Artifact.Signature.PublicKey

    @enforce_keys [:public]
    defstruct @enforce_keys ++ [:from, :before, :retired]

    @type t :: %__MODULE__{
            public: PublicKey.t(),
            from: Version.t() | nil,
            before: Version.t() | nil,
            retired: String.t() | nil
          }
  end

  @enforce_keys [:keys]
  defstruct @enforce_keys

  @type t :: %__MODULE__{keys: [Key.t(), ...]}

  @schema 1
  @name "release/keys.json"
  @path Path.expand("../../../release/keys.json", __DIR__)
  @external_resource @path
  @text (case File.read(@path) do
           {:ok, text} -> text
           {:error, :enoent} -> nil
         end)

  @doc "The keys of Emily's releases."
  @spec release() :: {:ok, t()} | {:error, NoReleaseKeyError.t() | SignatureError.t()}
  def release, do: decode(@text)

  @doc "A keyring of one key, which signs every version."
  @spec of(Signature.PublicKey.t()) :: t()
  def of(%Signature.PublicKey{} = public), do: %__MODULE__{keys: [%Key{public: public}]}

  @doc "Reads the list; a list without a key, or none at all, is a `NoReleaseKeyError`."
  @spec decode(String.t() | nil) ::
          {:ok, t()} | {:error, NoReleaseKeyError.t() | SignatureError.t()}
  def decode(nil), do: {:error, %NoReleaseKeyError{path: @name}}

  def decode(text) do
    case JSON.decode(text) do
      {:ok, %{"schema" => @schema, "keys" => []}} -> decode(nil)
      {:ok, %{"schema" => @schema, "keys" => keys}} when is_list(keys) -> read(keys)
      _other -> refuse("a list of keys, schema #{@schema}", inspect(text, printable_limit: 60))
    end
  end

  defp read(entries) do
    with {:ok, keys} <- map(entries, &key/1),
         [] <- repeated(keys) do
      {:ok, %__MODULE__{keys: keys}}
    else
      {:error, error} -> {:error, error}
      [id | _] -> refuse("each key once", "#{id} twice")
    end
  end

  defp map(entries, read) do
    Enum.reduce_while(Enum.reverse(entries), {:ok, []}, fn entry, {:ok, keys} ->
      case read.(entry) do
        {:ok, key} -> {:cont, {:ok, [key | keys]}}
        {:error, error} -> {:halt, {:error, error}}
      end
    end)
  end

  defp key(%{"id" => id, "public" => encoded, "from" => from} = entry)
       when is_binary(id) and is_binary(encoded) and is_binary(from) do
    retired = entry["retired"]

    with {:ok, public} <- Signature.decode_encoded_key(encoded),
         {:id, ^id} <- {:id, Signature.id(public.id)},
         {:ok, from} <- version(from),
         {:ok, before} <- version(entry["before"]),
         true <- is_nil(retired) or is_binary(retired) do
      {:ok, %Key{public: public, from: from, before: before, retired: retired}}
    else
      {:error, error} -> {:error, error}
      {:id, actual} -> refuse("the key #{id}", "the key #{actual}")
      false -> refuse("the reason why #{id} is retired", inspect(retired))
    end
  end

  defp key(other) do
    refuse(
      "a key with its id, its public half and a version",
      inspect(other, printable_limit: 60)
    )
  end

  defp version(nil), do: {:ok, nil}

  defp version(text) do
    with true <- is_binary(text), {:ok, version} <- Version.parse(text) do
      {:ok, version}
    else
      _other -> refuse("a version such as 1.2.3", inspect(text))
    end
  end

  defp repeated(keys) do
    ids = Enum.map(keys, &id/1)
    ids -- Enum.uniq(ids)
  end

  @doc """
  Checks that `text` is a signature of `bytes`, made for the file named `subject` by a key that signs
  `version`; returns the key.
  """
  @spec verify(t(), iodata(), String.t(), String.t(), String.t()) ::
          {:ok, Key.t()} | {:error, SignatureError.t()}
  def verify(%__MODULE__{} = keyring, bytes, text, subject, version) do
    with {:ok, signature} <- Signature.decode(text, subject),
         {:ok, key} <- find(keyring, signature.key_id, subject),
         :ok <- check(key, version, subject),
         :ok <- Signature.verify(bytes, text, key.public, subject) do
      {:ok, key}
    end
  end

  defp find(%__MODULE__{keys: keys}, key_id, subject) do
    case Enum.find(keys, &(&1.public.id == key_id)) do
      nil ->
        refuse(subject, "a signature by #{names(keys)}", "one by the key #{Signature.id(key_id)}")

      key ->
        {:ok, key}
    end
  end

  defp names([key]), do: "the key #{id(key)}"
  defp names(keys), do: "one of the keys #{Enum.map_join(keys, ", ", &id/1)}"

  defp check(%Key{retired: reason} = key, _version, subject) when is_binary(reason) do
    refuse(
      subject,
      "a signature by a key that is in use",
      "one by the key #{id(key)}, which is retired: #{reason}"
    )
  end

  defp check(key, version, subject) do
    if signs?(key, version) do
      :ok
    else
      refuse(
        subject,
        "a signature by a key for version #{version}",
        "one by the key #{id(key)}, which is for versions #{range(key)}"
      )
    end
  end

  @doc "Whether a key signs a version; one that cannot be read is signed by keys for all versions only."
  @spec signs?(Key.t(), String.t()) :: boolean()
  def signs?(%Key{from: nil, before: nil, retired: nil}, _version), do: true

  def signs?(%Key{retired: nil} = key, version) do
    case Version.parse(version) do
      {:ok, version} ->
        (key.from == nil or Version.compare(version, key.from) != :lt) and
          (key.before == nil or Version.compare(version, key.before) == :lt)

      :error ->
        false
    end
  end

  def signs?(%Key{}, _version), do: false

  defp range(%Key{before: nil} = key), do: "from #{key.from}"
  defp range(%Key{} = key), do: "from #{key.from} and before #{key.before}"

  defp id(%Key{public: public}), do: Signature.id(public.id)

  defp refuse(subject \\ @name, expected, actual) do
    {:error, %SignatureError{subject: subject, expected: expected, actual: actual}}
  end
end
