defmodule Emily.Artifact.Signature do
  @moduledoc """
  Detached signatures as [minisign](https://jedisct1.github.io/minisign/) makes them.

  Only the prehashed form is accepted: Ed25519 over the BLAKE2b-512 digest of the bytes. The
  second, "global" signature covers the first one and the trusted comment, and is checked too.

  `Emily.Artifact.Keyring` has the keys of the releases.
  """

  alias Emily.Artifact.SignatureError

  defmodule PublicKey do
    @moduledoc "A minisign public key: its identifier and its 32 bytes."

    @enforce_keys [:id, :bytes]
    defstruct @enforce_keys

    @type t :: %__MODULE__{id: <<_::64>>, bytes: <<_::256>>}
  end

  @enforce_keys [:key_id, :signature, :trusted_comment, :global_signature]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          key_id: <<_::64>>,
          signature: <<_::512>>,
          trusted_comment: String.t(),
          global_signature: <<_::512>>
        }

  @doc "Reads minisign's two-line public key file."
  @spec decode_key(String.t()) :: {:ok, PublicKey.t()} | {:error, SignatureError.t()}
  def decode_key(text) do
    with ["untrusted comment:" <> _comment, encoded] <- lines(text),
         {:ok, key} <- decode_encoded_key(encoded) do
      {:ok, key}
    else
      _other -> refuse("the public key", "minisign's two-line public key file", excerpt(text))
    end
  end

  @doc "Reads the second line of minisign's public key file."
  @spec decode_encoded_key(String.t()) :: {:ok, PublicKey.t()} | {:error, SignatureError.t()}
  def decode_encoded_key(encoded) do
    case Base.decode64(encoded) do
      {:ok, <<"Ed", id::binary-8, bytes::binary-32>>} -> {:ok, %PublicKey{id: id, bytes: bytes}}
      _other -> refuse("the public key", "minisign's public key, in Base64", excerpt(encoded))
    end
  end

  @doc """
  Reads minisign's four-line signature file; `subject` names the signed file in errors.

  Each line ends with a line feed, and nothing else is there.
  """
  @spec decode(String.t(), String.t()) :: {:ok, t()} | {:error, SignatureError.t()}
  def decode(text, subject) do
    with true <- String.valid?(text) and not String.contains?(text, "\r"),
         ["untrusted comment: " <> _, encoded, "trusted comment: " <> comment, global, ""] <-
           String.split(text, "\n"),
         {:ok, <<"ED", key_id::binary-8, signature::binary-64>>} <- base64(encoded),
         {:ok, <<global_signature::binary-64>>} <- base64(global) do
      {:ok,
       %__MODULE__{
         key_id: key_id,
         signature: signature,
         trusted_comment: comment,
         global_signature: global_signature
       }}
    else
      _other -> refuse(subject, "a prehashed minisign signature of four lines", excerpt(text))
    end
  end

  @doc """
  Checks that `text` is a signature of `bytes` by `key`, made for the file named `subject`.
  """
  @spec verify(iodata(), String.t(), PublicKey.t(), String.t()) ::
          :ok | {:error, SignatureError.t()}
  def verify(bytes, text, %PublicKey{} = key, subject) do
    expected_comment = "file:" <> subject

    with {:ok, signature} <- decode(text, subject) do
      cond do
        signature.key_id != key.id ->
          refuse(
            subject,
            "a signature by the key #{id(key.id)}",
            "one by the key #{id(signature.key_id)}"
          )

        not signed?(:crypto.hash(:blake2b, bytes), signature.signature, key) ->
          refuse(subject, "a signature of this very file", "one that does not match its bytes")

        not signed?(
          signature.signature <> signature.trusted_comment,
          signature.global_signature,
          key
        ) ->
          refuse(
            subject,
            "a trusted comment that is signed",
            "one that was changed: #{signature.trusted_comment}"
          )

        signature.trusted_comment != expected_comment ->
          refuse(subject, "the trusted comment #{expected_comment}", signature.trusted_comment)

        true ->
          :ok
      end
    end
  end

  # One text for the same bytes, and no other.
  defp base64(encoded) do
    with {:ok, bytes} <- Base.decode64(encoded) do
      if Base.encode64(bytes) == encoded, do: {:ok, bytes}, else: :error
    end
  end

  defp signed?(message, signature, key) do
    :crypto.verify(:eddsa, :none, message, signature, [key.bytes, :ed25519])
  end

  @doc "A key's identifier, as minisign prints it."
  @spec id(<<_::64>>) :: String.t()
  def id(<<number::little-64>>),
    do: number |> Integer.to_string(16) |> String.pad_leading(16, "0")

  defp lines(text) do
    text
    |> String.trim_trailing()
    |> String.split("\n")
    |> Enum.map(&String.trim_trailing(&1, "\r"))
  end

  defp refuse(subject, expected, actual) do
    {:error, %SignatureError{subject: subject, expected: expected, actual: actual}}
  end

  defp excerpt(text), do: inspect(text, printable_limit: 60)
end
