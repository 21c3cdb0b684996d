defmodule Emily.Artifact.Inventory do
  @moduledoc """
  What the cache holds, release by release, and how it is removed.

  Only what an install makes is counted as the cache's: files whose names are those of Emily's
  assets, their unpacked folders, and what interrupted installs left in `tmp/`. Anything else that
  stands there is named and left alone. What is installed in `priv/` does not depend on the cache.
  """

  alias Emily.Artifact.{Cache, CacheError, Lock, Targets}

  # cargo xtask install holds locks of another kind; what it wrote to lately may be in use.
  @settled_s 3600

  @enforce_keys [:releases, :leftovers, :foreign]
  defstruct @enforce_keys

  @typedoc """
  One asset, or what is left of interrupted work on it.

  `version` is nil where the name is of a variant or target that this version of Emily does not know.
  """
  @type entry :: %{
          asset: String.t(),
          version: String.t() | nil,
          paths: [Path.t()],
          bytes: non_neg_integer()
        }

  @type t :: %__MODULE__{releases: [entry()], leftovers: [entry()], foreign: [Path.t()]}

  @doc "Looks through a cache, which need not exist."
  @spec of(Cache.t()) :: {:ok, t()} | {:error, CacheError.t()}
  def of(%Cache{} = cache) do
    with :ok <- Cache.check_owner(cache),
         {:ok, names} <- list(cache.root),
         {:ok, unpacked} <- list(Path.join(cache.root, "unpacked")),
         {:ok, tmp} <- list(Path.join(cache.root, "tmp")) do
      found =
        Enum.map(names -- ~w(unpacked tmp locks), &at_root(cache, &1)) ++
          Enum.map(unpacked, &unpacked(cache, &1)) ++ Enum.map(tmp, &temporary(cache, &1))

      {:ok,
       %__MODULE__{
         releases: entries(found, :release),
         leftovers: entries(found, :leftover),
         foreign: for({:foreign, nil, path} <- found, do: path)
       }}
    end
  end

  defp list(folder) do
    case File.ls(folder) do
      {:ok, names} -> {:ok, Enum.sort(names)}
      {:error, :enoent} -> {:ok, []}
      {:error, reason} -> {:error, error(folder, "look through the cache", reason)}
    end
  end

  # The checksum goes first when it is removed: without it nobody believes the rest.
  defp at_root(cache, name) do
    asset = name |> String.replace_suffix(".minisig", "") |> String.replace_suffix(".sha256", "")
    found(:release, asset, Path.join(cache.root, name))
  end

  defp unpacked(cache, name) do
    path = Path.join([cache.root, "unpacked", name])

    case Regex.run(~r/\A[0-9a-f]{16}-(.+)\z/, name) do
      [_name, asset] -> found(:release, asset <> ".tar.gz", path)
      nil -> {:foreign, nil, path}
    end
  end

  defp temporary(cache, name) do
    path = Path.join([cache.root, "tmp", name])

    case Regex.run(~r/\A(.+?\.tar\.gz)\.(.*)\z/, name) do
      [_name, asset, rest] ->
        kind = if rest =~ ~r/\.(part|draft)\z/ and lately?(path), do: :in_use, else: :leftover
        found(kind, asset, path)

      nil ->
        {:foreign, nil, path}
    end
  end

  defp found(kind, asset, path) do
    if String.starts_with?(asset, Targets.asset_prefix()) and String.ends_with?(asset, ".tar.gz"),
      do: {kind, asset, path},
      else: {:foreign, nil, path}
  end

  defp lately?(path) do
    match?({:ok, %{mtime: time}} when time > 0, File.lstat(path, time: :posix)) and
      System.os_time(:second) - File.lstat!(path, time: :posix).mtime < @settled_s
  end

  defp entries(found, kind) do
    found
    |> Enum.filter(&(elem(&1, 0) == kind))
    |> Enum.group_by(&elem(&1, 1), &elem(&1, 2))
    |> Enum.sort()
    |> Enum.map(fn {asset, paths} ->
      %{
        asset: asset,
        version: Targets.version_of(asset),
        paths: Enum.sort_by(paths, &{not String.ends_with?(&1, ".sha256"), &1}),
        bytes: paths |> Enum.map(&bytes/1) |> Enum.sum()
      }
    end)
  end

  # Of what is gone in the meantime, nothing.
  defp bytes(path) do
    case File.lstat(path) do
      {:ok, %File.Stat{type: :directory}} ->
        with({:ok, names} <- File.ls(path), do: names)
        |> List.wrap()
        |> Enum.filter(&is_binary/1)
        |> Enum.map(&bytes(Path.join(path, &1)))
        |> Enum.sum()

      {:ok, %File.Stat{size: size}} ->
        size

      {:error, _gone} ->
        0
    end
  end

  @doc """
  Removes what an entry stands for, unless an install is at work on its asset.

  Waits for nobody: `{:busy, pid}` names the process of the install.
  """
  @spec remove(Cache.t(), entry()) :: :ok | {:busy, String.t()} | {:error, Exception.t()}
  def remove(%Cache{} = cache, %{asset: asset, paths: paths}) do
    lock = Cache.lock(cache, asset)

    with :none <- Lock.holder(lock),
         :ok <- Cache.open(cache) do
      Lock.with_lock(lock, fn _waiting -> :ok end, fn ->
        Enum.find_value(paths, :ok, &unremovable/1)
      end)
    else
      {:alive, pid} -> {:busy, pid}
      {:error, error} -> {:error, error}
    end
  end

  # A link is removed, and never what it leads to.
  defp unremovable(path) do
    case File.rm_rf(path) do
      {:ok, _paths} -> nil
      {:error, reason, path} -> {:error, error(path, "remove a file of the cache", reason)}
    end
  end

  @doc """
  Removes the cache's folders, with their locks, as far as nothing is left in them.
  """
  @spec remove_folders(Cache.t()) :: :ok
  def remove_folders(%Cache{} = cache) do
    locks = Cache.locks(cache)

    with {:ok, names} <- File.ls(locks) do
      for name <- names,
          String.starts_with?(name, Targets.asset_prefix()),
          do: File.rm(Path.join(locks, name))
    end

    # Only what is empty can be removed so; and a folder that never was a cache stays.
    if File.dir?(cache.root),
      do: for(folder <- Enum.reverse(Cache.folders(cache)), do: File.rmdir(folder))

    :ok
  end

  defp error(path, action, reason), do: %CacheError{path: path, action: action, reason: reason}
end
