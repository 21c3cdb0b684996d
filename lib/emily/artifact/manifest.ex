defmodule Emily.Artifact.Manifest do
  @moduledoc """
  `manifest.json`: what an archive holds, and what it needs of the machine.

  The same file stands in `priv/` once an archive is installed, and says there what is installed.
  """

  alias Emily.Artifact
  alias Emily.Artifact.{Cuda, Host, Json, ManifestError, Targets, UnfitHostError}

  @name "manifest.json"
  @max_bytes 1_048_576

  @enforce_keys [:version, :variant, :target, :nif_version, :mlx, :requires, :files]
  defstruct @enforce_keys

  @typedoc "One file of the archive; the digest is lower-case hexadecimal."
  @type entry :: %{name: String.t(), size: non_neg_integer(), sha256: String.t()}

  @type t :: %__MODULE__{
          version: String.t(),
          variant: String.t(),
          target: String.t(),
          nif_version: String.t(),
          mlx: %{String.t() => String.t()},
          requires: %{
            glibc: String.t() | nil,
            glibcxx: String.t() | nil,
            macos: String.t() | nil,
            libraries: [String.t()]
          },
          files: [entry()]
        }

  @typedoc "What is wrong with one file on disk."
  @type mismatch ::
          {String.t(), :missing}
          | {String.t(), {:size | :sha256, expected :: term(), actual :: term()}}

  @doc "The file's name."
  @spec name() :: String.t()
  def name, do: @name

  @doc "The most bytes that the file may take."
  @spec max_bytes() :: pos_integer()
  def max_bytes, do: @max_bytes

  @doc "Reads and decodes the manifest of a folder."
  @spec read(Path.t()) :: {:ok, t()} | {:error, ManifestError.t() | File.Error.t()}
  def read(dir) do
    path = Path.join(dir, @name)

    with {:ok, text} <- read_file(path),
         {:error, error} <- decode(text) do
      {:error, %{error | path: path}}
    end
  end

  defp read_file(path) do
    with {:error, reason} <- File.read(path) do
      {:error, %File.Error{reason: reason, action: "read file", path: path}}
    end
  end

  @doc "Decodes a manifest and checks the form of every field."
  @spec decode(binary()) :: {:ok, t()} | {:error, ManifestError.t()}
  def decode(text) when byte_size(text) > @max_bytes do
    {:error,
     %ManifestError{expected: "at most #{@max_bytes} bytes", actual: "#{byte_size(text)} bytes"}}
  end

  def decode(text) do
    case Json.decode(text) do
      {:ok, %{} = data} -> {:ok, build(data)}
      {:ok, _other} -> {:error, %ManifestError{expected: "a JSON object", actual: excerpt(text)}}
      :error -> {:error, %ManifestError{expected: "JSON", actual: excerpt(text)}}
    end
  catch
    {:invalid, error} -> {:error, error}
  end

  # A field that fails throws, so that the shape of the manifest reads as one expression.
  defp build(data) do
    expect(data, "schema", "1", &(&1 === 1))
    expect(data, "package", "\"emily\"", &(&1 == "emily"))
    requires = expect(data, "requires", "an object", &is_map/1)

    %__MODULE__{
      version: string(data, "version"),
      variant: string(data, "variant"),
      target: string(data, "target"),
      nif_version: version(data, "nif_version"),
      mlx: mlx(data),
      requires: %{
        glibc: optional_version(requires, "glibc"),
        glibcxx: optional_version(requires, "glibcxx"),
        macos: optional_version(requires, "macos"),
        libraries: libraries(requires)
      },
      files: files(data)
    }
  end

  defp files(data) do
    files = expect(data, "files", "a list of at least one file", &(is_list(&1) and &1 != []))

    entries =
      for file <- files do
        %{
          name: expect(file, "name", "a plain file name", &plain_name?/1),
          size: expect(file, "size", "a number of bytes", &(is_integer(&1) and &1 >= 0)),
          sha256: expect(file, "sha256", "64 lower-case hexadecimal digits", &digest?/1)
        }
      end

    names = Enum.map(entries, & &1.name)
    sorted = Enum.sort(names)
    twice = names -- Enum.uniq(names)

    cond do
      twice != [] -> invalid("files", "every name once", "#{hd(twice)} twice")
      names != sorted -> invalid("files", Enum.join(sorted, ", "), Enum.join(names, ", "))
      true -> entries
    end
  end

  defp mlx(data) do
    mlx = expect(data, "mlx", "an object", &is_map/1)
    for field <- ~w(version mlx_c from), do: expect(mlx, field, "a string", &is_binary/1)

    for field <- ~w(tag revision),
        do: expect(mlx, field, "a string", &(is_nil(&1) or is_binary(&1)))

    for {field, text} <- mlx, is_binary(text), into: %{}, do: {field, text}
  end

  defp libraries(requires) do
    expect(requires, "libraries", "a list of file names", fn names ->
      is_list(names) and Enum.all?(names, &plain_name?/1)
    end)
  end

  defp string(data, field), do: expect(data, field, "a string", &(is_binary(&1) and &1 != ""))

  defp version(data, field) do
    expect(data, field, "a version of numbers and dots", &version?/1)
  end

  defp optional_version(data, field) do
    expect(data, field, "a version of numbers and dots", &(is_nil(&1) or version?(&1)))
  end

  defp expect(%{} = data, field, expected, valid?) do
    value = Map.get(data, field)
    if field in Json.duplicates(data), do: invalid(field, "every field once", "it twice")
    if valid?.(value), do: value, else: invalid(field, expected, shown(value))
  end

  # The only list of objects is the one of files.
  defp expect(other, _field, _expected, _valid?) do
    invalid("files", "an object for every file", shown(other))
  end

  @spec invalid(String.t(), String.t(), String.t()) :: no_return()
  defp invalid(field, expected, actual) do
    throw({:invalid, %ManifestError{field: field, expected: expected, actual: actual}})
  end

  defp shown(nil), do: "nothing"
  defp shown(value), do: inspect(value, limit: 5, printable_limit: 80)

  defp excerpt(text), do: inspect(text, printable_limit: 40)

  defp version?(value), do: is_binary(value) and value =~ ~r/\A\d{1,9}(\.\d{1,9}){1,2}\z/
  defp digest?(value), do: is_binary(value) and value =~ ~r/\A[0-9a-f]{64}\z/

  # Slashes, control characters and the two dot names would let a name leave its folder.
  defp plain_name?(value), do: is_binary(value) and value =~ ~r/\A[A-Za-z0-9_][A-Za-z0-9._+-]*\z/

  @doc """
  Checks that a manifest describes an archive: the same version, variant and target, its library,
  no file beyond the allow-list, and no more bytes than an archive may take.
  """
  @spec check(t(), Artifact.t()) :: :ok | {:error, ManifestError.t()}
  def check(%__MODULE__{} = manifest, %Artifact{} = artifact) do
    names = Enum.map(manifest.files, & &1.name)
    unlisted = names -- (artifact.files -- [@name])
    total = manifest.files |> Enum.map(& &1.size) |> Enum.sum()
    max = Targets.max_unpacked_bytes()

    cond do
      manifest.version != artifact.version ->
        refuse("version", artifact.version, manifest.version)

      manifest.variant != artifact.variant ->
        refuse("variant", artifact.variant, manifest.variant)

      manifest.target != artifact.target ->
        refuse("target", artifact.target, manifest.target)

      unlisted != [] ->
        refuse("files", "only files of the allow-list", Enum.join(unlisted, ", "))

      artifact.library not in names ->
        refuse("files", artifact.library, Enum.join(names, ", "))

      total > max ->
        refuse("files", "at most #{max} bytes together", "#{total} bytes")

      true ->
        check_floors(manifest.requires, Targets.floors(artifact.variant))
    end
  end

  # A release asks for no more than its variant may.
  defp check_floors(requires, declared) do
    Enum.find_value([:glibc, :glibcxx, :macos], :ok, fn name ->
      asked = requires[name]
      most = declared["#{name}"]

      cond do
        asked == nil -> nil
        most == nil -> refuse("#{name}", "nothing", asked)
        at_least?(most, asked) -> nil
        true -> refuse("#{name}", "at most #{most}", asked)
      end
    end)
  end

  defp refuse(field, expected, actual) do
    {:error, %ManifestError{field: field, expected: expected, actual: actual}}
  end

  @doc """
  Refuses a machine that lacks something the archive needs.

  NVIDIA's driver may be absent: an image for GPUs is made on machines that have none, and a driver
  comes with the machine that runs it. `absent_driver/2` tells of it.
  """
  @spec check_host(t(), Host.t()) :: :ok | {:error, UnfitHostError.t()}
  def check_host(%__MODULE__{} = manifest, %Host{} = host) do
    case problems(manifest, host) do
      [] ->
        :ok

      problems ->
        asset = "emily #{manifest.version} (#{manifest.variant}, #{manifest.target})"
        {:error, %UnfitHostError{asset: asset, problems: problems}}
    end
  end

  @doc "What to know of a machine without the driver that the archive needs, or nil if there is nothing."
  @spec absent_driver(t(), Host.t()) :: String.t() | nil
  def absent_driver(%__MODULE__{} = manifest, %Host{} = host) do
    if Cuda.driver() in missing(manifest, host) do
      "#{Cuda.driver()}, the NVIDIA driver, is not on this machine: Emily for #{manifest.variant} is installed, " <>
        "and loads where there is one. `mix emily.doctor` says whether all is there"
    end
  end

  defp missing(manifest, host) do
    for name <- manifest.requires.libraries, Host.library(host, name) == nil, do: name
  end

  @doc "What a machine lacks for the archive, but for NVIDIA's driver, one sentence each."
  @spec problems(t(), Host.t()) :: [String.t()]
  def problems(%__MODULE__{requires: requires} = manifest, %Host{} = host) do
    missing = missing(manifest, host) -- [Cuda.driver()]

    Enum.reject(
      [
        target_problem(manifest.target, host),
        nif_problem(manifest.nif_version, host.nif),
        floor_problem("glibc", requires.glibc, host.glibc),
        floor_problem("libstdc++ with GLIBCXX", requires.glibcxx, host.glibcxx),
        floor_problem("macOS", requires.macos, host.macos)
        | Enum.map(missing, &library_problem(manifest.variant, &1))
      ],
      &is_nil/1
    )
  end

  defp library_problem(variant, name) do
    case Cuda.packages(variant, name) do
      nil -> "the shared library #{name}"
      packages -> "the shared library #{name}, which is in #{packages}"
    end
  end

  defp target_problem(target, %Host{target: target}), do: nil

  defp target_problem(target, host) do
    "the target #{target}; this machine is #{host.target || "#{host.os} on #{host.arch}"}"
  end

  # The VM loads a library of its own major version that asks for no later minor one.
  defp nif_problem(needed, available) do
    [needed_major | _] = numbers(needed)
    [major | _] = numbers(available)

    if needed_major != major or not at_least?(available, needed) do
      "a VM with NIF version #{needed}; this one has #{available}"
    end
  end

  defp floor_problem(_name, nil, _available), do: nil
  defp floor_problem(name, needed, nil), do: "#{name} #{needed} or newer; this machine has none"

  defp floor_problem(name, needed, available) do
    unless at_least?(available, needed) do
      "#{name} #{needed} or newer; this machine has #{available}"
    end
  end

  @doc """
  Compares two versions of numbers and dots.

      iex> Emily.Artifact.Manifest.at_least?("2.38", "2.9")
      true
  """
  @spec at_least?(String.t(), String.t()) :: boolean()
  def at_least?(available, needed) do
    [available, needed] = [numbers(available), numbers(needed)]
    width = max(length(available), length(needed))
    pad(available, width) >= pad(needed, width)
  end

  defp numbers(version), do: version |> String.split(".") |> Enum.map(&String.to_integer/1)
  defp pad(numbers, width), do: numbers ++ List.duplicate(0, width - length(numbers))

  @doc """
  Compares the files of a folder with the manifest, by size alone or also by content.

  Sizes cost a `stat` each and are what every compile looks at; digests read every byte.
  """
  @spec mismatches(t(), Path.t(), :size | :sha256) :: [mismatch()]
  def mismatches(%__MODULE__{files: files}, dir, depth) when depth in [:size, :sha256] do
    Enum.flat_map(files, fn file ->
      path = Path.join(dir, file.name)

      case File.stat(path) do
        {:ok, %File.Stat{type: :regular, size: size}} when size != file.size ->
          [{file.name, {:size, file.size, size}}]

        {:ok, %File.Stat{type: :regular}} ->
          if depth == :sha256, do: content_mismatch(file, path), else: []

        _absent ->
          [{file.name, :missing}]
      end
    end)
  end

  defp content_mismatch(file, path) do
    case Emily.Artifact.Checksum.file(path) do
      {:ok, digest} when digest == file.sha256 -> []
      {:ok, digest} -> [{file.name, {:sha256, file.sha256, digest}}]
      {:error, _reason} -> [{file.name, :missing}]
    end
  end
end
