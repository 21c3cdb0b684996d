defmodule Emily.Artifact.Host do
  @moduledoc """
  What this machine is: the facts that decide which archive fits it.

  Everything is learnt through an injected `t:environment/0`, so that a test can be any machine.
  """

  alias Emily.Artifact.{Cuda, Targets}
  alias Emily.Settings

  @enforce_keys [:os, :arch, :target, :nif, :otp]
  defstruct @enforce_keys ++ [:glibc, :glibcxx, :macos, libraries: %{}, cuda_paths: []]

  @type t :: %__MODULE__{
          os: String.t(),
          arch: String.t(),
          target: String.t() | nil,
          nif: String.t(),
          otp: String.t(),
          glibc: String.t() | nil,
          glibcxx: String.t() | nil,
          macos: String.t() | nil,
          libraries: %{String.t() => Path.t()},
          cuda_paths: [Path.t()]
        }

  @typedoc """
  How to look at a machine: facts that the VM knows, and the three ways to learn more.
  """
  @type environment :: %{
          os_type: {atom(), atom()},
          architecture: String.t(),
          nif: String.t(),
          otp: String.t(),
          variables: %{String.t() => String.t()},
          command: (String.t(), [String.t()] -> {:ok, String.t()} | :error),
          read: (Path.t() -> {:ok, binary()} | {:error, term()}),
          list: (Path.t() -> {:ok, [String.t()]} | {:error, term()}),
          cuda_paths: [Path.t()]
        }

  @standard_folders ~w(/lib64 /usr/lib64 /lib /usr/lib /usr/local/lib)

  @doc "This machine."
  @spec environment() :: environment()
  def environment do
    %{
      os_type: :os.type(),
      architecture: List.to_string(:erlang.system_info(:system_architecture)),
      nif: List.to_string(:erlang.system_info(:nif_version)),
      otp: System.otp_release(),
      variables: System.get_env(),
      command: &command/2,
      read: &File.read/1,
      list: &File.ls/1,
      cuda_paths: cuda_paths()
    }
  end

  # A setting of the wrong type is the doctor's to report, and not for each look at the machine.
  defp cuda_paths do
    Settings.cuda_paths()
  rescue
    ArgumentError -> Settings.cuda_paths(System.get_env(), [])
  end

  # Some systems keep ldconfig where only root's PATH looks.
  defp command(program, arguments) do
    found = System.find_executable(program) || System.find_executable("/sbin/#{program}")

    with path when is_binary(path) <- found,
         {output, 0} <- System.cmd(path, arguments, stderr_to_stdout: true) do
      {:ok, output}
    else
      _failed -> :error
    end
  end

  @doc """
  Only the name of the target, or nil when there is none: it costs nothing, so every compile asks.
  """
  @spec target(environment()) :: String.t() | nil
  def target(environment \\ environment()), do: Targets.find(os(environment), arch(environment))

  @doc "All the facts; on Linux this reads the C and C++ libraries that the VM itself runs on."
  @spec detect(environment()) :: t()
  def detect(environment \\ environment()) do
    os = os(environment)

    host = %__MODULE__{
      os: os,
      arch: arch(environment),
      target: target(environment),
      nif: environment.nif,
      otp: environment.otp
    }

    case os do
      "linux" -> linux(host, environment)
      "macos" -> %{host | macos: macos_version(environment)}
      _other -> host
    end
  end

  @doc "Where a shared library is, or nil when the loader would not find it."
  @spec library(t(), String.t()) :: Path.t() | nil
  def library(%__MODULE__{libraries: libraries}, name), do: Map.get(libraries, name)

  defp os(%{os_type: {:unix, :linux}}), do: "linux"
  defp os(%{os_type: {:unix, :darwin}}), do: "macos"
  defp os(%{os_type: {_family, name}}), do: Atom.to_string(name)

  defp arch(%{architecture: architecture}) do
    case architecture |> String.split("-") |> hd() do
      arm when arm in ["arm64", "aarch64", "arm"] -> "aarch64"
      intel when intel in ["x86_64", "amd64"] -> "x86_64"
      other -> other
    end
  end

  defp macos_version(environment) do
    case environment.command.("sw_vers", ["-productVersion"]) do
      {:ok, version} -> String.trim(version)
      :error -> nil
    end
  end

  defp linux(host, environment) do
    mapped = mapped_libraries(environment)

    libraries =
      host.arch
      |> libraries_of_the_loader(mapped, environment)
      |> Map.merge(libraries_of_cuda(environment))
      |> Map.merge(mapped)

    %{
      host
      | libraries: libraries,
        cuda_paths: environment.cuda_paths,
        glibc: glibc_version(libraries["libc.so.6"], environment),
        glibcxx: glibcxx_version(libraries["libstdc++.so.6"], environment)
    }
  end

  # What this VM has mapped is what a library that it loads gets, whatever else is installed.
  defp mapped_libraries(environment) do
    case environment.read.("/proc/self/maps") do
      {:ok, maps} ->
        for [path] <- Regex.scan(~r{/\S+\.so[.\d]*$}m, maps), into: %{}, do: {soname(path), path}

      {:error, _reason} ->
        %{}
    end
  end

  # The file's name may carry a full version (libstdc++.so.6.0.33); programs ask for the major one.
  defp soname(path), do: Regex.replace(~r/(\.so\.\d+)\..*\z/, Path.basename(path), "\\1")

  defp libraries_of_the_loader(arch, mapped, environment) do
    beside = mapped |> Map.values() |> Enum.map(&Path.dirname/1) |> Enum.uniq()
    preferred = String.split(environment.variables["LD_LIBRARY_PATH"] || "", ":", trim: true)

    listed(@standard_folders ++ beside, environment)
    |> Map.merge(loader_cache(arch, environment))
    |> Map.merge(listed(preferred, environment))
  end

  # Libemily has them loaded from there, so the loader need not find them.
  defp libraries_of_cuda(environment) do
    environment.cuda_paths
    |> Enum.reverse()
    |> Enum.flat_map(&Cuda.library_folders(&1, environment.list))
    |> listed(environment)
  end

  defp listed(folders, environment) do
    for folder <- folders,
        {:ok, names} <- [environment.list.(folder)],
        name <- names,
        String.contains?(name, ".so"),
        into: %{},
        do: {name, Path.join(folder, name)}
  end

  # A line reads "\tlibm.so.6 (libc6,x86-64) => /lib/x86_64-linux-gnu/libm.so.6".
  defp loader_cache(arch, environment) do
    flag = %{"x86_64" => "x86-64", "aarch64" => "AArch64"}[arch]

    case environment.command.("ldconfig", ["-p"]) do
      {:ok, cache} when is_binary(flag) ->
        for [_line, name, flags, path] <- Regex.scan(~r/^\s+(\S+) \((.*)\) => (\S+)$/m, cache),
            String.contains?(flags, flag),
            into: %{},
            do: {name, path}

      _unknown ->
        %{}
    end
  end

  defp glibc_version(path, environment) do
    find_in(path, environment, fn library ->
      case Regex.run(~r/release version (\d+\.\d+)/, library) do
        [_text, version] -> version
        nil -> nil
      end
    end)
  end

  # Every release of libstdc++ adds a symbol version, so the highest one is its version.
  defp glibcxx_version(path, environment) do
    find_in(path, environment, fn library ->
      Regex.scan(~r/GLIBCXX_(\d+(?:\.\d+)+)/, library, capture: :all_but_first)
      |> Enum.map(fn [version] -> version end)
      |> Enum.max_by(&numbers/1, fn -> nil end)
    end)
  end

  defp find_in(nil, _environment, _find), do: nil

  defp find_in(path, environment, find) do
    case environment.read.(path) do
      {:ok, library} -> find.(library)
      {:error, _reason} -> nil
    end
  end

  defp numbers(version), do: version |> String.split(".") |> Enum.map(&String.to_integer/1)
end
