defmodule Emily.Artifact.Release do
  @moduledoc """
  The published checksum of an archive, believed only with a valid signature.

  The same rules hold for what the release's address serves and for what the cache kept of it.
  """

  alias Emily.Artifact
  alias Emily.Artifact.{Cache, CacheError, Checksum, Download, Http, HttpError, Keyring}
  alias Emily.Artifact.{SidecarError, SignatureError, UnavailableError}
  alias Emily.Artifact.Signature.PublicKey

  # Both files are a few hundred bytes.
  @max_bytes 16_384

  @enforce_keys [:digest, :sidecar, :signature, :key]
  defstruct @enforce_keys

  @typedoc "The archive's digest, the bytes of the two files that vouch for it, and who signed them."
  @type t :: %__MODULE__{
          digest: String.t(),
          sidecar: binary(),
          signature: binary(),
          key: PublicKey.t()
        }

  @doc """
  What the folder at `base_url` publishes for an archive.

  `known` is what the cache has of it, verified, if anything: while the checksum is the same, its
  signature need not be asked for.
  """
  @spec fetch(
          Download.t(),
          String.t(),
          Artifact.t(),
          Keyring.t(),
          {:ok, t()} | nil
        ) :: {:ok, t()} | {:error, Exception.t()}
  def fetch(%Download{} = download, base_url, %Artifact{} = artifact, keyring, known \\ nil) do
    sidecar_url = base_url <> Artifact.sidecar(artifact)

    case {get(download, sidecar_url, &unavailable(&1, artifact)), known} do
      {{:ok, sidecar}, {:ok, %{sidecar: sidecar}}} -> known
      {{:ok, sidecar}, _other} -> fetch_signature(download, base_url, artifact, keyring, sidecar)
      {{:error, error}, _known} -> {:error, error}
    end
  end

  defp fetch_signature(download, base_url, artifact, keyring, sidecar) do
    signature_url = base_url <> Artifact.signature(artifact)

    with {:ok, signature} <- get(download, signature_url, &unsigned(&1, artifact)) do
      case verify(sidecar, signature, artifact, keyring) do
        {:ok, release} ->
          {:ok, release}

        {:error, %SidecarError{} = error} ->
          {:error, %{error | url: Http.shown(base_url <> Artifact.sidecar(artifact))}}

        {:error, error} ->
          {:error, %{error | url: Http.shown(signature_url)}}
      end
    end
  end

  defp get(download, url, missing) do
    case Download.to_memory(download, url, @max_bytes) do
      {:error, %HttpError{} = error} ->
        {:error, if(HttpError.absent?(error), do: missing.(error), else: error)}

      result ->
        result
    end
  end

  @doc "The error for an archive that its address does not have."
  @spec unavailable(HttpError.t(), Artifact.t()) :: UnavailableError.t()
  def unavailable(%HttpError{url: url}, artifact) do
    %UnavailableError{url: url, variant: artifact.variant, target: artifact.target}
  end

  defp unsigned(%HttpError{url: url} = error, artifact) do
    %SignatureError{
      subject: Artifact.sidecar(artifact),
      url: url,
      expected: "a signature beside it",
      actual: "none: #{HttpError.cause(error)}"
    }
  end

  @doc "What the cache kept of an archive's publication."
  @spec cached(Cache.t(), Artifact.t(), Keyring.t()) :: {:ok, t()} | {:error, Exception.t()}
  def cached(%Cache{} = cache, %Artifact{} = artifact, keyring) do
    with {:ok, sidecar} <- read(Cache.sidecar(cache, artifact)),
         {:ok, signature} <- read(Cache.signature(cache, artifact)) do
      verify(sidecar, signature, artifact, keyring)
    end
  end

  defp read(path) do
    with {:error, reason} <- File.read(path) do
      {:error, %CacheError{path: path, action: "read the cache", reason: reason}}
    end
  end

  # The signature first: nothing of an unsigned file is looked at.
  defp verify(sidecar, signature, artifact, keyring) do
    with {:ok, key} <- signed(sidecar, signature, artifact, keyring),
         {:ok, digest} <- Checksum.decode_sidecar(sidecar, artifact.asset) do
      {:ok, %__MODULE__{digest: digest, sidecar: sidecar, signature: signature, key: key.public}}
    end
  end

  defp signed(sidecar, signature, artifact, keyring) do
    Keyring.verify(keyring, sidecar, signature, Artifact.sidecar(artifact), artifact.version)
  end
end
