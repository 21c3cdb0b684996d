defmodule Emily.Artifact.Fetch do
  @moduledoc """
  Brings the wanted archive into the cache, with the signed checksum that vouches for it.

  1. The checksum is fetched. It is the source of truth: a release that was published again replaces
     what the cache has. The signature is fetched too, unless the cache has this very checksum with
     a signature that holds. Without a network, what the cache kept does, with a warning.
  2. The cached archive is used if its bytes still match; else it is downloaded to a temporary file,
     verified, and renamed into the cache.

  Where the settings say `offline: true`, nothing is asked of a network: what the cache kept does, or
  a folder that a `file://` address names.

  Whoever calls holds the archive's lock; see `with_lock/3`.
  """

  alias Emily.{Artifact, Settings}

  alias Emily.Artifact.{
    Cache,
    CacheError,
    Checksum,
    ChecksumError,
    Client,
    Download,
    Http,
    HttpError,
    Install,
    Keyring,
    Lock,
    OfflineError,
    Release,
    Retry,
    Targets
  }

  @enforce_keys [:artifact, :settings, :keyring, :notify]
  defstruct @enforce_keys ++ [retry: %Retry{}, client: []]

  @type t :: %__MODULE__{
          artifact: Artifact.t(),
          settings: Settings.t(),
          keyring: Keyring.t(),
          notify: (Install.event() -> any()),
          retry: Retry.t(),
          client: keyword()
        }

  @doc "Runs a function with the cache open and the lock of one of its archives held."
  @spec with_lock(Settings.t(), Artifact.t(), (Install.event() -> any()), (Cache.t() ->
                                                                             {:ok, value}
                                                                             | {:error,
                                                                                Exception.t()})) ::
          {:ok, value} | {:error, Exception.t()}
        when value: var
  def with_lock(settings, artifact, notify, function) do
    with {:ok, cache} <- Cache.locate(settings),
         :ok <- Cache.open(cache) do
      lock = Cache.lock(cache, artifact.asset)

      Lock.with_lock(lock, &notify.({:info, &1}), fn ->
        Cache.sweep(cache, artifact)
        function.(cache)
      end)
    end
  end

  @doc "The archive's place in the cache, and what vouches for it there."
  @spec run(t(), Cache.t()) :: {:ok, Path.t(), Release.t()} | {:error, Exception.t()}
  def run(%__MODULE__{} = fetch, cache) do
    url = base_url(fetch)

    if fetch.settings.offline and not String.starts_with?(url, "file:") do
      with {:ok, release} <- kept(fetch, cache),
           do: {:ok, Cache.archive(cache, fetch.artifact), release}
    else
      Client.with_client(fetch.settings, fetch.client, fn client ->
        download = %Download{client: client, retry: fetch.retry, notify: fetch.notify}

        with {:ok, release} <- release(fetch, cache, download),
             {:ok, archive} <- archive(fetch, cache, download, release) do
          {:ok, archive, release}
        end
      end)
    end
  end

  defp base_url(fetch), do: Targets.base_url(fetch.settings, fetch.artifact.version)

  ## The signed checksum

  defp kept(fetch, cache) do
    with {:ok, release} <- Release.cached(cache, fetch.artifact, fetch.keyring),
         :ok <- whole(fetch, cache, release) do
      {:ok, release}
    else
      {:error, error} ->
        {:error,
         %OfflineError{
           asset: fetch.artifact.asset,
           path: cache.root,
           missing: missing(error)
         }}
    end
  end

  defp whole(fetch, cache, %{digest: digest}) do
    path = Cache.archive(cache, fetch.artifact)

    case Checksum.file(path) do
      {:ok, ^digest} ->
        :ok

      {:ok, actual} ->
        {:error,
         %ChecksumError{asset: fetch.artifact.asset, expected: digest, actual: actual, size: 0}}

      {:error, reason} ->
        {:error, %CacheError{path: path, action: "read the cache", reason: reason}}
    end
  end

  defp missing(%CacheError{path: path, reason: :enoent}), do: Path.basename(path)
  defp missing(%ChecksumError{asset: asset}), do: "#{asset} as published: its bytes are others"
  defp missing(error), do: error |> Exception.message() |> String.split("\n") |> hd()

  defp release(fetch, cache, download) do
    known = with {:error, _none} <- Release.cached(cache, fetch.artifact, fetch.keyring), do: nil

    case Release.fetch(download, base_url(fetch), fetch.artifact, fetch.keyring, known) do
      {:ok, release} -> {:ok, release}
      {:error, %HttpError{} = error} -> unreachable(fetch, cache, known, error)
      {:error, error} -> {:error, error}
    end
  end

  defp unreachable(fetch, cache, known, error) do
    with true <- HttpError.offline?(error),
         {:ok, release} <- known,
         :ok <- whole(fetch, cache, release) do
      fetch.notify.({:warning, offline_warning(fetch, error)})
      {:ok, release}
    else
      _no_verified_cache -> {:error, error}
    end
  end

  defp offline_warning(fetch, error) do
    "#{fetch.artifact.asset} comes from the cache, where it was verified: " <>
      "#{error.url} could not be asked whether it is still current (#{HttpError.cause(error)})"
  end

  ## The archive

  defp archive(fetch, cache, download, release) do
    path = Cache.archive(cache, fetch.artifact)

    with {:ok, digest} when digest == release.digest <- Checksum.file(path),
         :ok <- keep(fetch, cache, release) do
      {:ok, path}
    else
      {:error, %{__exception__: true} = error} -> {:error, error}
      _stale_or_absent -> fetch_archive(fetch, cache, download, release, path)
    end
  end

  defp fetch_archive(fetch, cache, download, release, path) do
    url = base_url(fetch) <> fetch.artifact.asset
    temporary = Cache.temporary(cache, fetch.artifact)
    fetch.notify.({:info, "Downloading #{Http.shown(url)}"})

    with {:ok, got} <- download(fetch, download, url, temporary),
         :ok <- check(got, release, url, fetch.artifact),
         step(fetch, :downloaded),
         :ok <- Cache.move(temporary, path),
         step(fetch, :archive_kept),
         :ok <- keep(fetch, cache, release) do
      {:ok, path}
    else
      {:error, error} ->
        File.rm(temporary)
        {:error, error}
    end
  end

  defp download(fetch, download, url, temporary) do
    case Download.to_file(download, url, temporary, Targets.max_unpacked_bytes()) do
      {:error, %HttpError{} = error} ->
        if HttpError.absent?(error),
          do: {:error, Release.unavailable(error, fetch.artifact)},
          else: {:error, error}

      result ->
        result
    end
  end

  defp check(%{sha256: digest}, %{digest: digest}, _url, _artifact), do: :ok

  defp check(got, release, url, artifact) do
    {:error,
     %ChecksumError{
       asset: artifact.asset,
       url: Http.shown(url),
       size: got.size,
       expected: release.digest,
       actual: got.sha256
     }}
  end

  # The checksum and its signature stand beside the archive, for a day without a network.
  defp keep(fetch, cache, release) do
    with :ok <- put(fetch, cache, Cache.signature(cache, fetch.artifact), release.signature),
         :ok <- put(fetch, cache, Cache.sidecar(cache, fetch.artifact), release.sidecar) do
      step(fetch, :release_kept)
    end
  end

  defp put(fetch, cache, path, bytes) do
    temporary = Cache.temporary(cache, fetch.artifact)

    case File.read(path) do
      {:ok, ^bytes} -> :ok
      _stale -> with :ok <- write(temporary, bytes), do: Cache.move(temporary, path)
    end
  end

  defp write(path, bytes) do
    case File.write(path, bytes, [:exclusive]) do
      :ok ->
        :ok

      {:error, reason} ->
        File.rm(path)
        {:error, %CacheError{path: path, action: "write to the cache", reason: reason}}
    end
  end

  defp step(fetch, step) do
    fetch.notify.({:step, step})
    :ok
  end
end
