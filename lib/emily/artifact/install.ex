defmodule Emily.Artifact.Install do
  @moduledoc """
  Brings the wanted archive into `priv/`.

  1. The signed checksum is fetched and verified. It is the source of truth: a release that was
     published again replaces what the cache has. Without a network, the one that the cache kept
     does, with a warning.
  2. The cached archive is used if its bytes still match; else it is downloaded to a temporary
     file, verified, and renamed into the cache.
  3. It is unpacked into a temporary folder, after its manifest was held against this machine, and
     renamed into the cache; or an earlier unpacking is used, if every byte still matches.
  4. Its files are linked into `priv/`; see `Emily.Artifact.Priv`.

  A lock in the cache lets one process at a time do this for one archive. `installed?/3` answers
  without any of it: what is in `priv/` already is believed by name, version and size, so that a
  compile with nothing to do costs a few `stat` calls, or also by content. `mix compile.emily --force` goes through
  all the steps again, and so finds a release that was published anew.
  """

  alias Emily.{Artifact, Settings}

  alias Emily.Artifact.{
    Archive,
    Cache,
    CacheError,
    Checksum,
    ChecksumError,
    Client,
    Download,
    Host,
    Http,
    HttpError,
    Keyring,
    Lock,
    Manifest,
    Priv,
    Release,
    Retry,
    Targets
  }

  @enforce_keys [:artifact, :settings, :priv, :keyring, :notify]
  defstruct @enforce_keys ++ [host: &Host.detect/0, retry: %Retry{}, client: []]

  @typedoc """
  What an install says while it runs. A step is a change on disk that was just made.
  """
  @type event ::
          {:info, String.t()}
          | {:warning, String.t()}
          | {:progress, done :: non_neg_integer(), total :: pos_integer() | nil}
          | {:step, term()}

  @type t :: %__MODULE__{
          artifact: Artifact.t(),
          settings: Settings.t(),
          priv: Path.t(),
          keyring: Keyring.t(),
          notify: (event() -> any()),
          host: (-> Host.t()),
          retry: Retry.t(),
          client: keyword()
        }

  @doc "Whether there is nothing to do; costs no network and reads no library."
  @spec installed?(Path.t(), Artifact.t(), :size | :sha256) :: boolean()
  defdelegate installed?(priv, artifact, depth \\ :size), to: Priv

  @doc "Installs, whatever is in `priv/` now; nothing there changes unless all went well."
  @spec run(t()) :: {:ok, Manifest.t()} | {:error, Exception.t()}
  def run(%__MODULE__{} = install) do
    with {:ok, cache} <- Cache.locate(install.settings),
         :ok <- Cache.open(cache) do
      lock = %Lock{
        resource: install.artifact.asset,
        folder: Cache.locks(cache),
        name: install.artifact.asset
      }

      Lock.with_lock(lock, &install.notify.({:info, &1}), fn -> locked(install, cache) end)
    end
  end

  defp locked(install, cache) do
    Cache.sweep(cache, install.artifact)

    Client.with_client(install.settings, install.client, fn client ->
      download = %Download{client: client, retry: install.retry, notify: install.notify}

      with {:ok, release} <- release(install, cache, download),
           {:ok, archive} <- archive(install, cache, download, release),
           {:ok, folder, manifest} <- unpacked(install, cache, archive, release),
           :ok <- Priv.place(install.priv, folder, manifest, &step(install, &1)) do
        {:ok, manifest}
      end
    end)
  end

  defp base_url(install), do: Targets.base_url(install.settings, install.artifact.version)

  ## The signed checksum

  defp release(install, cache, download) do
    case Release.fetch(download, base_url(install), install.artifact, install.keyring) do
      {:ok, release} -> {:ok, release}
      {:error, %HttpError{} = error} -> offline(install, cache, error)
      {:error, error} -> {:error, error}
    end
  end

  defp offline(install, cache, error) do
    with true <- HttpError.offline?(error),
         {:ok, release} <- Release.cached(cache, install.artifact, install.keyring),
         {:ok, digest} when digest == release.digest <-
           Checksum.file(Cache.archive(cache, install.artifact)) do
      install.notify.({:warning, offline_warning(install, error)})
      {:ok, release}
    else
      _no_verified_cache -> {:error, error}
    end
  end

  defp offline_warning(install, error) do
    "#{install.artifact.asset} comes from the cache, where it was verified: " <>
      "#{error.url} could not be asked whether it is still current (#{HttpError.cause(error)})"
  end

  ## The archive

  defp archive(install, cache, download, release) do
    path = Cache.archive(cache, install.artifact)

    with {:ok, digest} when digest == release.digest <- Checksum.file(path),
         :ok <- keep(install, cache, release) do
      {:ok, path}
    else
      {:error, %{__exception__: true} = error} -> {:error, error}
      _stale_or_absent -> fetch_archive(install, cache, download, release, path)
    end
  end

  defp fetch_archive(install, cache, download, release, path) do
    url = base_url(install) <> install.artifact.asset
    temporary = Cache.temporary(cache, install.artifact)
    install.notify.({:info, "Downloading #{Http.shown(url)}"})

    with {:ok, got} <- download(install, download, url, temporary),
         :ok <- check(got, release, url, install.artifact),
         step(install, :downloaded),
         :ok <- move(temporary, path),
         step(install, :archive_kept),
         :ok <- keep(install, cache, release) do
      {:ok, path}
    else
      {:error, error} ->
        File.rm(temporary)
        {:error, error}
    end
  end

  defp download(install, download, url, temporary) do
    case Download.to_file(download, url, temporary, Targets.max_unpacked_bytes()) do
      {:error, %HttpError{reason: {:status, status}} = error} when status in [404, 410] ->
        {:error, Release.unavailable(error, install.artifact)}

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
  defp keep(install, cache, release) do
    with :ok <- put(install, cache, Cache.signature(cache, install.artifact), release.signature),
         :ok <- put(install, cache, Cache.sidecar(cache, install.artifact), release.sidecar) do
      step(install, :release_kept)
    end
  end

  defp put(install, cache, path, bytes) do
    temporary = Cache.temporary(cache, install.artifact)

    case File.read(path) do
      {:ok, ^bytes} -> :ok
      _stale -> with :ok <- write(temporary, bytes), do: move(temporary, path)
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

  defp move(from, to) do
    with {:error, reason} <- File.rename(from, to) do
      {:error, %CacheError{path: to, action: "move a file into the cache", reason: reason}}
    end
  end

  ## The unpacked files

  defp unpacked(install, cache, archive, release) do
    folder = Cache.unpacked(cache, install.artifact, release.digest)

    with true <- File.dir?(folder),
         {:ok, manifest, text} <- Archive.manifest(archive, install.artifact),
         {:ok, ^text} <- File.read(Path.join(folder, Manifest.name())),
         [] <- Manifest.mismatches(manifest, folder, :sha256) do
      with :ok <- Manifest.check_host(manifest, install.host.()), do: {:ok, folder, manifest}
    else
      _absent_or_damaged -> unpack(install, cache, archive, folder)
    end
  end

  defp unpack(install, cache, archive, folder) do
    temporary = Cache.temporary(cache, install.artifact)

    try do
      with :ok <- make(temporary),
           {:ok, manifest} <-
             Archive.unpack(archive, temporary, install.artifact, fn manifest ->
               Manifest.check_host(manifest, install.host.())
             end),
           step(install, :unpacked),
           :ok <- set_aside(install, cache, folder),
           :ok <- move(temporary, folder) do
        step(install, :unpacked_kept)
        {:ok, folder, manifest}
      end
    after
      File.rm_rf(temporary)
    end
  end

  defp make(folder) do
    with {:error, reason} <- File.mkdir(folder) do
      {:error, %CacheError{path: folder, action: "unpack the archive", reason: reason}}
    end
  end

  # A damaged folder leaves by rename too; what priv/ links to stays as it is.
  defp set_aside(install, cache, folder) do
    aside = Cache.temporary(cache, install.artifact)

    case File.rename(folder, aside) do
      :ok ->
        File.rm_rf(aside)
        :ok

      {:error, :enoent} ->
        :ok

      {:error, reason} ->
        {:error, %CacheError{path: folder, action: "replace damaged files", reason: reason}}
    end
  end

  defp step(install, step) do
    install.notify.({:step, step})
    :ok
  end
end
